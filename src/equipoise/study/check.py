"""Looks at a study before it runs: a step of every arm, the number of trials, and the time they will take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from equipoise.problems import problem
from equipoise.study import protocols
from equipoise.study.run import refuse_impossible
from equipoise.study.selection import describe
from equipoise.study.spec import Spec
from equipoise.study.theirs import users_code
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
        step_ms: wall time of a step.
        seconds: that all its trials will take, one after the other.
        trouble: what went wrong; empty if nothing did.
    """

    label: str
    trials: int
    step_ms: float
    seconds: float
    trouble: str = ""


def check(spec: Spec) -> Iterator[Checked]:
    """Takes a few steps of every arm in this process, and writes nothing.

    Raises:
        ValueError: the study makes no sense.
    """
    with users_code(f"problem {spec.problem!r}"):
        built = problem(spec.problem, **spec.problem_options)
        told = describe(built, spec.device)
    arms = protocols.arms(spec, told["first_losses"])
    refuse_impossible(spec, arms, built)
    whole = built.source("train").steps(spec.batch_size)
    for arm in arms:
        grid = list(protocols.tuning(spec, arm).values())
        finals = 0 if spec.tuning == "per seed" else len(spec.seeds)
        trials = sum(map(len, grid)) + finals
        middle: Trial = replace(grid[len(grid) // 2][0], stage="tune", epochs=1)
        try:
            result = run(middle, threads=1, steps=min(STEPS, whole))
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises is what is to be told
            yield Checked(arm.label, trials, 0.0, 0.0, f"{type(error).__name__}: {error}")
            continue
        # What is left besides steps is evaluation, after every epoch, and the building of the network.
        rest = max(result.cost.seconds - result.cost.step_ms * result.cost.steps / 1e3, 0.0)
        each = spec.epochs * (whole * result.cost.step_ms / 1e3 + rest)
        yield Checked(arm.label, trials, result.cost.step_ms, trials * each, result.note)
