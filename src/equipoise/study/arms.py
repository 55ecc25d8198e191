"""The arms of a comparison, each with the space that it is tuned over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from equipoise.study import fixed
from equipoise.study.fixed import FIXED
from equipoise.study.labels import SAMPLED, frozen, single
from equipoise.study.method_spec import MethodSpec
from equipoise.study.proposals import Proposed
from equipoise.study.questions import PROTOCOLS
from equipoise.study.spaces import Axes, Drawn, Frozen, Listed, Refined, Space
from equipoise.study.spec import Spec
from equipoise.study.trial import SINGLE_TASK, canonical
from equipoise.study.values import Coarse, Range, rounded

SCALARIZATION = "scalarization"


@dataclass(frozen=True)
class Arm:
    """One side of the comparison: a method with its options, or a single-task network.

    Attributes:
        label: how tables call it.
        method: id of the method, or ``"stl"``.
        space: what it is tuned over.
        options: fixed options.
        arguments: of the balancer around it.
        search: names of the options that are tuned.
        task: of a single-task arm.
        control: added by the protocol whether asked for or not.
        exhaustive: whether it stands outside of equal budgets, as brute force does.
        frozen: label of the arm whose mean weights it takes as fixed ones; empty for others.
    """

    label: str
    method: str
    space: Space
    options: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    search: tuple[str, ...] = ()
    task: str | None = None
    control: bool = False
    exhaustive: bool = False
    frozen: str = ""


def arms(spec: Spec, first_losses: Mapping[str, float]) -> list[Arm]:
    """All arms of a study: single-task networks, the controls of its protocol, its own methods.

    Args:
        spec: the study.
        first_losses: of every task, before training, from which fixed weights are drawn.

    Raises:
        ValueError: two arms have the same label, arms have tuning budgets of different size, or what is to be
            tried makes no sense.
    """
    protocol = PROTOCOLS[spec.protocol]
    found = [
        _arm(spec, MethodSpec.model_construct(id=SINGLE_TASK), single(task), task=task)
        for task in first_losses
    ]
    found.append(_fixed(spec, list(first_losses.values())))
    controls = [
        MethodSpec(id=method, options=dict(options)) for method, options in protocol.controls
    ]
    known: dict[str, int] = {}
    for number, wanted in enumerate([*controls, *spec.methods]):
        wanted = _with_refinement(spec, wanted, first_losses)
        key = canonical(wanted.model_dump(mode="json", exclude={"label"}))
        before = known.setdefault(key, number)
        if before == number:
            found.append(_arm(spec, wanted, _label(wanted), control=number < len(controls)))
        elif before >= len(controls) or wanted.label not in (None, wanted.id):
            _refuse_twice(spec, wanted, before < len(controls))
    if protocol.sampled:
        found.append(replace(found[len(first_losses)], label=SAMPLED, method="task_sampling"))
    if protocol.frozen:
        found += [_frozen(spec, arm, tuple(first_losses)) for arm in found if _dynamic(arm)]
    _refuse_same_labels(found)
    if protocol.equal_budgets:
        _refuse_unequal_budgets(spec, found)
    return found


def _arm(
    spec: Spec, wanted: MethodSpec, label: str, *, task: str | None = None, control: bool = True
) -> Arm:
    axes = Axes(
        wanted.learning_rates or spec.learning_rates, spec.decays(), wanted.search, wanted.options
    )
    try:
        space = _space(spec, axes, label)
    except ValueError as error:
        raise ValueError(f"{label!r}: {error}") from None
    return Arm(
        label,
        wanted.id,
        space,
        wanted.options,
        wanted.arguments,
        tuple(wanted.search),
        task,
        control,
    )


def _space(spec: Spec, axes: Axes, label: str) -> Space:
    coarse = [name for name, tried in (axes.search or {}).items() if isinstance(tried, Coarse)]
    if spec.how == "random":
        return Drawn(_ranges(axes), label, spec.candidates or 0)
    if spec.how == "optuna":
        return Proposed(_ranges(axes), label, spec.candidates or 0)
    if len(coarse) > 1:
        raise ValueError(f"only one option can be refined, not {', '.join(coarse)}")
    return Refined(axes, coarse[0], label) if coarse else Listed(tuple(axes.listed()))


def _ranges(axes: Axes) -> Axes:
    """Learning rates and decays that were listed, as what lies between them."""
    rates, decays = axes.rates, axes.decays
    if not isinstance(rates, Range) and len(rates) > 1:
        rates = Range(low=min(rates), high=max(rates))
    if not isinstance(decays, Range) and len(decays) > 1:
        log = min(decays) > 0
        decays = Range(low=min(decays), high=max(decays), log=log)
    return Axes(rates, decays, axes.search, axes.options)


def _fixed(spec: Spec, losses: Sequence[float]) -> Arm:
    """Tuned fixed weights."""
    protocol = PROTOCOLS[spec.protocol]
    axes = Axes(spec.learning_rates, spec.decays())
    space: Space
    if spec.how == "random":

        def weights(random: np.random.Generator) -> Iterator[Sequence[float]]:
            return fixed.weights_drawn(losses, random)

        space = Drawn(_ranges(axes), FIXED, spec.candidates or 0, weights)
    elif spec.how == "optuna":
        space = Proposed(_ranges(axes), FIXED, spec.candidates or 0, tuple(losses))
    elif protocol.fixed == "family":
        space = Listed(tuple(fixed.family(losses, axes)))
    else:
        by_loss = protocol.fixed == "shares"
        space = Listed(tuple(fixed.simplex(losses, axes, spec.weight_step, by_loss)))
    brute = protocol.fixed != "family"
    return Arm(FIXED, SCALARIZATION, space, search=("weights",), control=True, exhaustive=brute)


def how_fixed(spec: Spec) -> str:
    """How fixed weights are sought, in words."""
    protocol = PROTOCOLS[spec.protocol]
    if spec.how == "optuna":
        return "proposed by the search, beginning with the family: " + fixed.FAMILY.split(",", 1)[0]
    if spec.how == "random" or protocol.fixed == "family":
        return fixed.FAMILY
    text = fixed.BY_LOSS if protocol.fixed == "shares" else fixed.SIMPLEX
    return text.format(step=spec.weight_step)


def _with_refinement(
    spec: Spec, wanted: MethodSpec, first_losses: Mapping[str, float]
) -> MethodSpec:
    """The method with the coarse values that its protocol gives it, unless the study names some."""
    option, factors = PROTOCOLS[spec.protocol].refined.get(wanted.id, ("", ()))
    if not option or option in {*wanted.options, *wanted.search}:
        return wanted
    unit = max(1 / max(abs(loss), 1e-12) for loss in first_losses.values())
    coarse = Coarse(coarse=[rounded(unit * factor) for factor in factors])
    return wanted.model_copy(update={"search": {**wanted.search, option: coarse}})


def _dynamic(arm: Arm) -> bool:
    """Whether an arm's method gives weights of its own that move."""
    still = (SINGLE_TASK, SCALARIZATION, "task_sampling", "ew")
    return arm.method not in still and ":" not in arm.method


def _frozen(spec: Spec, arm: Arm, tasks: tuple[str, ...]) -> Arm:
    axes = Axes(spec.learning_rates, spec.decays())
    space = Frozen(arm.label, axes, tasks)
    return Arm(
        frozen(arm.label),
        SCALARIZATION,
        space,
        search=("weights",),
        exhaustive=True,
        frozen=arm.label,
    )


def _label(wanted: MethodSpec) -> str:
    if wanted.label:
        return wanted.label
    short = wanted.id.rpartition(":")[2]
    options = {**wanted.options, **wanted.arguments}
    inside = ", ".join(f"{name}={value}" for name, value in options.items())
    return f"{short} ({inside})" if inside else short


def _refuse_twice(spec: Spec, wanted: MethodSpec, control: bool) -> None:
    whose = f"which protocol {spec.protocol!r} has by itself" if control else "which is listed too"
    raise ValueError(
        f"{_label(wanted)!r} is {wanted.id!r} with the same options, {whose}; leave one of them out"
    )


def _refuse_same_labels(found: Sequence[Arm]) -> None:
    labels = [arm.label for arm in found]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(
            f"two methods of the study are called {twice[0]!r}; give one of them another 'label'"
        )


def _refuse_unequal_budgets(spec: Spec, found: Iterable[Arm]) -> None:
    sizes = {arm.label: arm.space.size for arm in found if not arm.exhaustive}
    usual = sizes[FIXED]
    odd = {label: size for label, size in sizes.items() if size != usual}
    if odd and not spec.allow_unequal_budgets:
        label, size = next(iter(odd.items()))
        raise ValueError(
            f"{label!r} would get {size} tuning trials and the others {usual}: give it "
            f"'learning_rates' and 'search' with {usual} combinations, or set "
            f"allow_unequal_budgets = true and the report will say so"
        )
