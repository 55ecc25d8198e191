"""What is trained, how, and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
from torch import Tensor

import equipoise

IDS = [card.id for card in equipoise.methods()]
CALLS = ("scalar", "backward")
SAMPLE = ("ew", "uw", "rlw", "famo", "mgda", "pcgrad", "cagrad", "nash_mtl", "graddrop")
# One method of each kind: both calls of these are tried on the parameters, and one of every other.
FAMILIES = ("mgda", "rgw", "graddrop", "db_mtl", "modo")
# Options with which a few steps reach every part of the method.
OPTIONS: dict[str, dict[str, Any]] = {
    "scalarization": {"weights": [1.0, 0.3, 2.0]},
    "stch": {"warmup_epoch": 1},
    "krum": {"n_selected": 2},
    "rotograd": {"burn_in": 2},
    "pareto_mtl": {"approach": 2},
}


@dataclass(frozen=True)
class Case:
    """A training run that some ranks, or one process with the whole batch, can do.

    Attributes:
        method: its id.
        route: where task gradients are taken.
        call: ``balancer(losses).backward()`` or ``balancer.backward(losses)``.
        options: of the balancer.
        wrapper: what makes the ranks work together.
        ddp: options of DistributedDataParallel.
        layout: what the wrapped module returns: losses, outputs, or the balanced loss; "owned" are losses,
            of a module that the balancer is a part of.
        steps: of the optimiser.
        sizes: examples of each rank; None for equal parts.
        weight: how the ranks tell the number of their examples.
        unlabelled: (step, task, first example, behind the last one) without labels.
        broken: (step, task, example) whose target is not a number.
        micro: batches accumulated before each step, all but the last under ``no_sync``.
        factor: what the balanced loss is multiplied with before its backward pass.
        balancers: how many of them balance the losses; their sum is followed.
        local: share of the tasks' own gradients in the perturbation of ``sharpness_aware``.
        same_seeds: whether all ranks seed torch alike before every step.
        failing: the stand-in for a solver that fails.
        go_on: whether a step that raises is followed by the next one.
        enough: number of tasks from which on chains of layers are gone down for all of them at once.
    """

    method: str
    route: Literal["losses", "parameters", "features"]
    call: Literal["scalar", "backward", "sharpness_aware"] = "scalar"
    options: dict[str, Any] = field(default_factory=dict)
    wrapper: Literal["ddp", "fsdp"] = "ddp"
    ddp: dict[str, Any] = field(default_factory=dict)
    layout: Literal["losses", "outputs", "balanced", "owned"] = "losses"
    steps: int = 5
    sizes: tuple[int, ...] | None = None
    weight: Literal["none", "number", "mapping"] = "none"
    unlabelled: tuple[tuple[int, str, int, int], ...] = ()
    broken: tuple[tuple[int, str, int], ...] = ()
    micro: int = 1
    factor: float = 1.0
    balancers: int = 1
    local: float = 0.0
    same_seeds: bool = True
    failing: str = ""
    go_on: bool = False
    enough: int = 4

    def but(self, **changes: Any) -> Case:
        """The case with some settings changed."""
        return replace(self, **changes)


@dataclass
class Outcome:
    """What one process saw.

    Attributes:
        gradients: after every backward pass, by name of the parameter (0 where there is none).
        weights: applied in every step, by task.
        metrics: after the last step.
        state: of the balancer at the end.
        errors: (step, type and text).
        warnings: their texts.
    """

    gradients: list[dict[str, Tensor]] = field(default_factory=list)
    weights: list[dict[str, float]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    errors: list[tuple[int, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def options_of(method: str, **more: Any) -> dict[str, Any]:
    """The options with which a method is tried."""
    return {**OPTIONS.get(method, {}), **more}


def routes(method: str, calls: Sequence[str] = CALLS) -> list[tuple[str, str]]:
    """Every (route, call) that is tried; on the parameters, methods beside the families take turns."""
    pairs = []
    for route in equipoise.method(method).routes:
        possible = [call for call in calls if call == "scalar" or route == "parameters"]
        if len(possible) > 1 and method not in FAMILIES:
            possible = [possible[IDS.index(method) % 2]]
        pairs += [(route, call) for call in possible]
    return pairs


def steps_of(method: str) -> int:
    """How many are followed: fewer where nothing but draws is carried from one to the next."""
    maths = equipoise.method(method)
    return 5 if maths.learns or maths.state or method in OPTIONS else 3


def needs(method: str) -> str:
    """What the method looks at."""
    return equipoise.method(method).needs


def sample(
    methods: Sequence[str] = SAMPLE, calls: Sequence[str] = CALLS, **settings: Any
) -> list[Any]:
    """Cases of a few methods, on every route that they name, as parameters of a test."""
    options = settings.pop("options", {})
    return [
        pytest.param(
            Case(method, route, call, options_of(method, **options), **settings),  # type: ignore[arg-type]
            id=f"{method}-{route}-{call}",
        )
        for method in methods
        for route, call in routes(method, calls)
    ]
