"""The arms of a comparison, and the trials that follow from its protocol."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from equipoise.study.fixed import FIXED, candidates_of
from equipoise.study.questions import PROTOCOLS
from equipoise.study.spec import Spec
from equipoise.study.trial import SINGLE_TASK, Trial, with_options

# Away from the seeds of final trials, so that a final trial never repeats a run it was selected by.
FIRST_TUNING_SEED = 1_000_000


@dataclass(frozen=True)
class Arm:
    """One side of the comparison: a method with its options, or a single-task network.

    Attributes:
        label: how tables call it.
        method: id of the method, or ``"stl"``.
        options: fixed options.
        arguments: of the balancer around it.
        search: options to try, each with its values.
        learning_rates: to try; empty for those of the study.
        points: learning rates with options that belong to them, instead of the grid of ``search``.
        task: of a single-task arm.
        control: added by the protocol whether asked for or not.
    """

    label: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    learning_rates: tuple[float, ...] = ()
    points: tuple[tuple[float, Mapping[str, Any]], ...] = ()
    task: str | None = None
    control: bool = False

    def key(self) -> str:
        """Method and options: equal for arms that are the same thing under two labels."""
        parts = (self.options, self.arguments, self.search)
        return " ".join((self.method, *map(with_options, parts), str(self.task)))

    def grid(self, spec: Spec) -> list[Candidate]:
        """Every learning rate with every value of the searched options."""
        if self.points:
            return [Candidate(rate, with_options(options)) for rate, options in self.points]
        rates = self.learning_rates or tuple(spec.learning_rates)
        values = [[(name, value) for value in tried] for name, tried in self.search.items()]
        return [
            Candidate(rate, with_options({**self.options, **dict(chosen)}))
            for rate in rates
            for chosen in product(*values)
        ]


@dataclass(frozen=True)
class Candidate:
    """One point of an arm's tuning grid."""

    learning_rate: float
    options: str

    def option(self, name: str) -> Any:
        """The value of an option."""
        return json.loads(self.options)[name]


def arms(spec: Spec, first_losses: Mapping[str, float]) -> list[Arm]:
    """All arms of a study: single-task networks, the controls of its protocol, its own methods.

    Args:
        spec: the study.
        first_losses: of every task, before training, from which fixed weights are drawn.

    Raises:
        ValueError: two arms have the same label, or arms have tuning budgets of different size.
    """
    found = [
        Arm(f"single-task {task}", SINGLE_TASK, task=task, control=True) for task in first_losses
    ]
    points = candidates_of(list(first_losses.values()), spec.learning_rates)
    found.append(Arm(FIXED, "scalarization", points=tuple(points), control=True))
    for method, options in PROTOCOLS[spec.protocol].controls:
        found.append(Arm(_label(method, options), method, options, control=True))
    known = {arm.key(): place for place, arm in enumerate(found)}
    for wanted in spec.methods:
        label = wanted.label or _label(wanted.id, {**wanted.options, **wanted.arguments})
        arm = Arm(
            label,
            wanted.id,
            wanted.options,
            wanted.arguments,
            wanted.search,
            tuple(wanted.learning_rates or ()),
        )
        place = known.get(arm.key())
        if place is None:
            known[arm.key()] = len(found)
            found.append(arm)
    _refuse_same_labels(found)
    _refuse_unequal_budgets(spec, found)
    return found


def tuning(spec: Spec, arm: Arm) -> dict[Candidate, list[Trial]]:
    """The trials that an arm is tuned by: each candidate with each seed.

    Where every seed tunes for itself, the trial of its best candidate is its final one: it measures the test
    split after its last epoch, which nothing looks at unless the candidate was chosen.
    """
    if spec.tuning == "per seed":
        return {c: [_trial(spec, arm, c, "final", s) for s in spec.seeds] for c in arm.grid(spec)}
    seeds = [FIRST_TUNING_SEED + number for number in range(spec.tuning_seeds)]
    return {c: [_trial(spec, arm, c, "tune", seed) for seed in seeds] for c in arm.grid(spec)}


def final(spec: Spec, arm: Arm, chosen: Sequence[Candidate | None]) -> list[Trial | None]:
    """The final trials of an arm in the order of the seeds.

    Args:
        spec: the study.
        arm: the arm.
        chosen: the candidate of each seed; None where nothing finished.
    """
    return [
        None if candidate is None else _trial(spec, arm, candidate, "final", seed)
        for candidate, seed in zip(chosen, spec.seeds, strict=True)
    ]


def _trial(spec: Spec, arm: Arm, candidate: Candidate, stage: Any, seed: int) -> Trial:
    # A single-task network has no weights to balance: fields that do not touch it stay at their
    # default, so that studies that differ there share its trials.
    single = arm.method == SINGLE_TASK
    return Trial(
        problem=spec.problem,
        problem_options=with_options(spec.problem_options),
        method=arm.method,
        method_options=candidate.options,
        arguments=with_options(arm.arguments),
        task=arm.task,
        stage=stage,
        seed=seed,
        learning_rate=candidate.learning_rate,
        weight_decay=spec.weight_decay,
        optimizer=spec.optimizer,
        schedule=spec.schedule,
        epochs=spec.epochs,
        batch_size=spec.batch_size,
        checkpoint=spec.checkpoint,
        route="auto" if single else spec.route,
        weight_sum="paper" if single else spec.weight_sum,
        device=spec.device,
    )


def _label(method: str, options: Mapping[str, Any]) -> str:
    short = method.rpartition(":")[2]
    inside = ", ".join(f"{name}={value}" for name, value in options.items())
    return f"{short} ({inside})" if inside else short


def _refuse_same_labels(found: Sequence[Arm]) -> None:
    labels = [arm.label for arm in found]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(
            f"two methods of the study are called {twice[0]!r}; give one of them another 'label'"
        )


def _refuse_unequal_budgets(spec: Spec, found: Iterable[Arm]) -> None:
    sizes = {arm.label: len(arm.grid(spec)) for arm in found}
    usual = len(spec.learning_rates)
    odd = {label: size for label, size in sizes.items() if size != usual}
    if odd and not spec.allow_unequal_budgets:
        label, size = next(iter(odd.items()))
        raise ValueError(
            f"{label!r} would get {size} tuning trials and the others {usual}: give it "
            f"'learning_rates' and 'search' with {usual} combinations, or set "
            f"allow_unequal_budgets = true and the report will say so"
        )
