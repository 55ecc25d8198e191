"""Looks at a study before it runs: a step of every arm, the number of trials, and the time they will take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from equipoise.study.asked import asked
from equipoise.study.preparing import Setting, prepared
from equipoise.study.spec import Spec
from equipoise.study.train import run
from equipoise.study.trial import Trial

# Steps of each arm: the first ones are slower than those that follow.
STEPS = 6


@dataclass(frozen=True)
class Checked:
    """What a few steps of an arm said.

    Attributes:
        label: of the arm.
        trials: that the study has of it.
        shared: so many of them are those of an arm before it, and run once.
        step_ms: wall time of a step.
        seconds: that its trials but the shared ones will take, one after the other.
        trouble: what went wrong; empty if nothing did.
    """

    label: str
    trials: int
    shared: int
    step_ms: float
    seconds: float
    trouble: str = ""


def check(spec: Spec) -> Iterator[Checked]:
    """Takes a few steps of every arm in this process, and writes nothing.

    Raises:
        ValueError: the study makes no sense.
    """
    for setting in prepared(spec):
        yield from _checked(setting)


def _checked(setting: Setting) -> Iterator[Checked]:
    spec = setting.spec
    # Arms without a trial yet, such as frozen weights, are measured by equal weights.
    planned = setting.plans()
    seen: set[str] = set()
    usual = next(iter(planned["ew"].tried[0].values()))[0]
    for label, plan in planned.items():
        grid = [own[0] for own in plan.tried[0].values()] or [usual]
        own = asked([plan], spec)
        count, shared = own.total, len(own.ids & seen)
        seen |= own.ids
        label = f"{setting.name}: {label}" if setting.name else label
        middle: Trial = replace(grid[len(grid) // 2], stage="tune", epochs=1, bars="{}")
        try:
            result = run(middle, threads=1, steps=min(STEPS, setting.steps))
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises is what is to be told
            yield Checked(label, count, shared, 0.0, 0.0, f"{type(error).__name__}: {error}")
            continue
        # What is left besides steps is evaluation, after every epoch, and the building of the network.
        rest = max(result.cost.seconds - result.cost.step_ms * result.cost.steps / 1e3, 0.0)
        each = spec.epochs * (setting.steps * result.cost.step_ms / 1e3 + rest)
        seconds = (count - shared) * each
        yield Checked(label, count, shared, result.cost.step_ms, seconds, result.note)
