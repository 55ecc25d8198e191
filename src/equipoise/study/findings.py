"""What a store says: every number of a comparison, computed once for report, terminal and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.study.arm_findings import Against, ArmFindings, arm_findings
from equipoise.study.arms import arms
from equipoise.study.asked import asked, asked_by
from equipoise.study.fixed import FIXED
from equipoise.study.plans import Plan, plans
from equipoise.study.price import spent
from equipoise.study.questions import PROTOCOLS
from equipoise.study.selection import Measure, Measurements, described, study_of
from equipoise.study.spec import Spec
from equipoise.study.statistics import (
    Array,
    Difference,
    compare,
    mean_rank,
    near_zero,
    usual_spread,
)
from equipoise.study.store import Store, Stored
from equipoise.study.trial import SINGLE_TASK


@dataclass
class Findings:
    """All numbers of a study.

    Attributes:
        spec: the study, at one setting of what it sweeps.
        settings: names of all settings.
        problem: description of the problem.
        measures: the columns M.
        plain: columns whose single-task reference is near zero, ``[M]``: no percentages, plain differences.
        reference: what Delta_m is taken against: ``"stl"``, the single-task networks; or ``"ew"`` where no
            single-task network of some task finished.
        baselines: labels of the arms that the others are compared with, in their order.
        whole: what Delta_m is taken against: runs of the single-task networks, or of equal weights, without
            gaps, ``[S', M]``.
        single: single-task arms, by task.
        arms: all others, in the order of the study.
        frozen: the mean weights of some of them as fixed weights, by the label of the dynamic arm.
        thawed: dynamic minus frozen weights, by the same labels: a family of its own.
        gate: whether later baselines wait for earlier ones in the comparisons.
        kept: what changed while trials of before were kept.
        joint: equal weights minus single-task networks, in the family of all that is compared; None where
            there are no single-task networks.
        found: trials and measurements.
        asked: ids of the trials that the study asks for, at all its settings.
        environments: where trials ran.
        weights: rows ``(trial, epoch, task, mean, std)`` of the weights applied.
        gradients: rows ``(trial, epoch, task, other, value)``: cosines, and norms where both are the same.
    """

    spec: Spec
    settings: tuple[str, ...]
    problem: dict[str, Any]
    measures: list[Measure]
    plain: NDArray[np.bool_]
    reference: str
    baselines: list[str]
    whole: Array
    single: dict[str, ArmFindings]
    arms: list[ArmFindings]
    frozen: dict[str, ArmFindings]
    thawed: dict[str, Difference]
    gate: bool
    kept: tuple[str, ...]
    joint: Difference | None
    found: Measurements
    asked: frozenset[str]
    environments: dict[int, dict[str, Any]]
    weights: list[tuple[Any, ...]]
    gradients: list[tuple[Any, ...]]

    def arm(self, label: str) -> ArmFindings:
        """The arm called ``label``."""
        return next(each for each in self.arms if each.arm.label == label)

    @property
    def title(self) -> str:
        """What the study calls itself, or its problem."""
        return str(self.spec.name or self.problem["name"])

    @property
    def brute_force(self) -> bool:
        """Whether fixed weights were tried all along the front."""
        return self.arm(FIXED).arm.exhaustive

    @property
    def all_arms(self) -> list[ArmFindings]:
        """Single-task arms and the others."""
        return [*self.single.values(), *self.arms, *self.frozen.values()]

    @cached_property
    def stored(self) -> dict[str, Stored]:
        """Trials of the study by id; those of earlier settings, which a store keeps, are left out."""
        return {key: each for key, each in self.found.trials.items() if key in self.asked}

    @property
    def others(self) -> int:
        """How many trials of earlier settings the store keeps."""
        return len(self.found.trials.keys() - self.asked)


def findings(
    store: Store,
    baselines: Sequence[str] | None = None,
    setting: str | None = None,
    gate: bool = False,
) -> Findings:
    """Computes everything a store has to say about its study.

    Args:
        store: trials and measurements.
        baselines: labels of the arms that the others are compared with, the most important one first; those
            of the protocol by default. A label that no arm has is left out.
        setting: which of those that the study sweeps, as :meth:`Spec.settings` names them; None for the main
            one.
        gate: whether an arm is compared with a later baseline only once a difference to the earlier ones is
            shown; to be decided on before looking. See :func:`~equipoise.study.statistics.compare`.

    Raises:
        ValueError: the store holds no study yet, or the study has no such setting.
    """
    settings = study_of(store).settings()
    if setting is not None and setting not in settings:
        raise ValueError(f"there is no setting {setting!r}; known: {', '.join(settings)}")
    spec = settings[next(iter(settings)) if setting is None else setting]
    told = described(store, spec)
    found = Measurements(told, store)
    planned = plans(spec, arms(spec, told["first_losses"]), found)
    whole_study = asked(planned.values(), spec)
    for other in settings.values():
        if other is not spec:
            whole_study |= asked_by(store, other)
    single_trials = {p.arm.task: p.finals for p in planned.values() if p.arm.task is not None}
    reference = found.single_task(single_trials, "test")
    whole = found.gapless(reference)
    stand_in = not len(whole)
    if stand_in:
        reference = np.stack([found.last(trial, "test") for trial in planned["ew"].finals])
        whole = reference[np.isfinite(reference).all(1)]
    scores = {
        label: np.stack([found.last(trial, "test") for trial in plan.finals])
        for label, plan in planned.items()
    }
    # All arms have a say in the spread that is usual, the single-task networks among them.
    usual = usual_spread(list(scores.values()))
    plain = near_zero(whole, found.floors(spec.near_zero), usual)
    against = Against(whole, reference, plain)
    entries = [
        arm_findings(spec, plan, found, scores[label], against) for label, plan in planned.items()
    ]
    frozen = {entry.arm.frozen: entry for entry in entries if entry.arm.frozen}
    compared = [e for e in entries if e.arm.method != SINGLE_TASK and not e.arm.frozen]
    _rank(compared, found)
    wanted = PROTOCOLS[spec.protocol].baselines if baselines is None else baselines
    labels = [entry.arm.label for entry in compared]
    present = [label for label in wanted if label in labels]
    joint = _compare(compared, present, alone=not stand_in, gate=gate)
    equal = _stored(planned["ew"], found)
    for entry in entries:
        entry.spent = spent(_stored(entry.plan, found), equal)
    return Findings(
        spec=spec,
        settings=tuple(settings),
        problem=told,
        measures=found.measures,
        plain=plain,
        reference="ew" if stand_in else SINGLE_TASK,
        baselines=present,
        whole=whole,
        single={entry.arm.task: entry for entry in entries if entry.arm.task is not None},
        arms=compared,
        frozen=frozen,
        thawed=_thawed({e.arm.label: e for e in compared}, frozen),
        gate=gate,
        kept=tuple(store.get("kept") or ()),
        joint=joint,
        found=found,
        asked=frozenset(whole_study.ids),
        environments=store.environments(),
        weights=store.table("weight")[1],
        gradients=store.table("gradient")[1],
    )


def _thawed(
    dynamic: Mapping[str, ArmFindings], frozen: Mapping[str, ArmFindings]
) -> dict[str, Difference]:
    if not frozen:
        return {}
    gaps = np.stack([dynamic[label].deltas - each.deltas for label, each in frozen.items()])
    found = compare(np.vstack([np.zeros_like(gaps[:1]), gaps]), [0])
    return {label: found[number + 1, 0] for number, label in enumerate(frozen)}


def _stored(plan: Plan, found: Measurements) -> list[Stored | None]:
    return [None if trial is None else found.trials.get(trial.id) for trial in plan.finals]


def _rank(entries: Sequence[ArmFindings], found: Measurements) -> None:
    """Ranks over the seeds that every ranked arm finished; an arm with a gap is not ranked."""
    whole = [entry for entry in entries if np.isfinite(entry.scores).all()]
    if len(whole) > 1:
        ranks = mean_rank(np.stack([entry.scores for entry in whole]), found.higher)
        for entry, rank in zip(whole, ranks, strict=True):
            entry.rank = float(rank)


def _compare(
    entries: Sequence[ArmFindings], baselines: Sequence[str], *, alone: bool, gate: bool
) -> Difference | None:
    """Paired differences to all baselines, and of equal weights to single tasks, as one family."""
    labels = [entry.arm.label for entry in entries]
    values = np.stack([entry.deltas for entry in entries])
    sharing = []
    if alone:
        equal = entries[labels.index("ew")]
        values = np.vstack([values, equal.deltas - equal.paired])
        sharing = [(labels.index("ew"), len(entries))]
    met = [labels.index(label) for label in baselines]
    gaps = compare(values, met, gate=gate, further=sharing)
    joint = gaps.pop(sharing[0], None) if sharing else None
    for (arm, baseline), gap in gaps.items():
        entries[arm].against[labels[baseline]] = gap
    return joint
