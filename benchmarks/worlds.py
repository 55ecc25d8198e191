"""A world in which the truth of a study is known: measured numbers from a model instead of training.

A score is ``base * (1 ± size * u / 100)``, where u is in standard deviations of the Delta_m of a run:

    u = level(arm) + quality(arm, rate) + sqrt(2) * (sqrt(rho) * shared(seed) + sqrt(1 - rho) * own)
    own = sqrt(1 - m) * training(arm, seed, rate) + sqrt(m) * measuring(arm, seed, rate, split)

for each of two tasks with a metric each, one lower and one higher is better; the noise of the tasks is
independent (hence sqrt(2)). The shared part is that of initial weights and batches: the same for all arms and
candidates of a seed. Training noise is the same on validation and test, measuring noise is not.

What is true of an arm is the expected test score of the whole procedure, tuning included. Every arm has the
same number of candidates, and qualities are the same numbers in another order: procedures of equal level
have equal expectations, so that differences between arms are exactly those of their levels. A tuned run is
better than an untuned one, since the choice sees a part of its training noise. This gain is larger for loud
arms, and for a network that learns one task, which is chosen by that task alone; it is computed from the same
model with half a million draws, and the levels of these arms are lowered by what they gain more. Percentages
of a noisy reference are not linear in u; at a size of 1 % that moves a truth by less than 0.01.

Where tuning is done once, a comparison is of the chosen candidates: the truth is their quality.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from equipoise.problems import Metric, Problem, Task, Tensors, TrunkAndHeads
from equipoise.study import Findings, Result, Spec, Trial, parse
from equipoise.study.trial import Cost, MetricRow

Array = NDArray[np.float64]
METHODS = ("gls", "dwa", "uw", "cagrad", "pcgrad", "mgda", "imtl_g")
PLANTED = METHODS[0]
RATES = (0.001, 0.01, 0.1)
TASKS, NAMES, BASES, SIGNS = ("a", "b"), ("error", "score"), (2.0, 50.0), (-1.0, 1.0)
MEASURING = 0.5
# More arms, and more seeds with those of tuning, than any study here has.
ARMS, SEEDS = 16, 4


@dataclass(frozen=True)
class World:
    """One setting.

    Attributes:
        seeds: of a study.
        correlation: rho.
        tails: of every part of the noise: ``"normal"``, or ``"t3"``, Student's t with 3 degrees of freedom.
        spread: own noise is ``"equal"`` for all arms, or, ``"split"``, three times as large for every second
            method.
        rates: whether learning rates are ``"alike"``, or ``"differ"``: one is best, the others lose one and
            two standard deviations, and which is best depends on the arm.
        effect: of the first method, in standard deviations of a run.
        diverged: arms of which all runs of one seed diverge: ``"none"``, ``"method"`` (the first one), or
            ``"any"``, drawn anew for each study from all arms, single-task networks among them.
        tuning: as in a study.
        single: whether single-task networks share the noise of a seed: ``"paired"`` or ``"apart"``.
        methods: their number, beside the four controls.
        size: standard deviation of the Delta_m of a run, in percent.
    """

    seeds: int = 5
    correlation: float = 0.5
    tails: str = "normal"
    spread: str = "equal"
    rates: str = "alike"
    effect: float = 0.0
    diverged: str = "none"
    tuning: str = "per seed"
    single: str = "paired"
    methods: int = 4
    size: float = 1.0

    def spec(self) -> Spec:
        """The study that is run in it."""
        return parse(
            {
                "problem": f"{__file__}:problem",
                "methods": list(METHODS[: self.methods]),
                "learning_rates": list(RATES),
                "tuning": self.tuning,
                "seeds": self.seeds,
                "epochs": 1,
                "batch_size": 8,
            }
        )

    def level(self, method: str) -> float:
        """What an arm is better by, in standard deviations of a run, before its gain by tuning."""
        planted = self.effect if method == PLANTED else 0.0
        return planted + self.gain(METHODS[0]) - self.gain(method)

    def gain(self, method: str) -> float:
        """What tuning adds to an arm."""
        if self.tuning == "once":
            return 0.0
        loud, alone = self.loudness(method), method == "stl"
        return gain(self.tails, self.correlation, self.qualities(), loud, alone)

    def loudness(self, method: str) -> float:
        """The size of an arm's own noise."""
        return 3.0 if self.spread == "split" and method in METHODS[1::2] else 1.0

    def qualities(self) -> tuple[float, ...]:
        """Of the candidates, in some order."""
        return (0.0, -1.0, -2.0) if self.rates == "differ" else (0.0, 0.0, 0.0)


class Study:
    """One study in a world: gives every trial its result, and knows the truth."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.random = np.random.default_rng([number, world.seeds])
        shape = (world.seeds + SEEDS, len(TASKS))
        self.shared, self.apart = (draw(world.tails, shape, self.random) for _ in range(2))
        self.own = draw(world.tails, (ARMS, len(RATES), 3, *shape), self.random)
        self.lost = int(self.random.integers(world.seeds))
        self.arms: dict[tuple[str, str | None], int] = {}
        self.seeds: dict[int, int] = {seed: seed for seed in range(world.seeds)}
        controls = [("ew", None), ("rlw", None), ("rgw", None), ("scalarization", None)]
        every = [
            *controls,
            *((m, None) for m in METHODS[: world.methods]),
            *(("stl", t) for t in TASKS),
        ]
        drawn = every[int(self.random.integers(len(every)))]
        self.diverging = {"none": None, "method": (PLANTED, None), "any": drawn}[world.diverged]

    def quality(self, key: tuple[str, str | None], rate: float) -> float:
        """Of a candidate of an arm."""
        place = self.arms.setdefault(key, len(self.arms)) + RATES.index(rate)
        return self.world.qualities()[place % len(RATES)]

    def result(self, trial: Trial) -> Result:
        """What the trial measures."""
        world, key = self.world, (trial.method, trial.task)
        fixed = world.level(trial.method) + self.quality(key, trial.learning_rate)
        seed = self.seeds.setdefault(trial.seed, len(self.seeds))
        own = self.own[self.arms[key], RATES.index(trial.learning_rate), :, seed]
        apart = trial.task is not None and world.single == "apart"
        shared = (self.apart if apart else self.shared)[seed]
        lost = trial.stage == "final" and seed == self.lost and key == self.diverging
        rows = []
        for place, split in enumerate(("validation", "test"), 1):
            noise = np.sqrt(1 - MEASURING) * own[0] + np.sqrt(MEASURING) * own[place]
            loud = world.loudness(trial.method) * np.sqrt(1 - world.correlation)
            mixed = np.sqrt(world.correlation) * shared + loud * noise
            values = score(fixed + np.sqrt(2) * mixed, world.size)
            if split == "validation" or trial.stage == "final":
                rows += [
                    MetricRow(1, split, task, name, float(value))
                    for task, name, value in zip(TASKS, NAMES, values, strict=True)
                    if trial.task in (None, task)
                ]
        return Result(
            status="diverged" if lost else "done",
            note="drawn to diverge" if lost else "",
            metrics=() if lost else tuple(rows),
            weights=(),
            gradients=(),
            cost=Cost(steps=1, samples=8, forwards=1, backwards=1, step_ms=1.0, seconds=0.1),
            initial=f"weights of seed {trial.seed}",
            order=f"batches of seed {trial.seed}",
            threads=1,
        )

    def truths(self, found: Findings) -> tuple[dict[str, float], dict[str, float]]:
        """The expected u of every arm by label, and of the single-task network of every task."""

        def truth(method: str, task: str | None, trials: Sequence[Trial | None]) -> float:
            rates = [trial.learning_rate for trial in trials if trial is not None]
            once = self.quality((method, task), rates[0]) if self.world.tuning == "once" else 0.0
            return self.world.level(method) + self.world.gain(method) + once

        arms = {e.arm.label: truth(e.arm.method, None, e.trials) for e in found.arms}
        return arms, {task: truth("stl", task, e.trials) for task, e in found.single.items()}


def score(u: float | Array, size: float) -> Array:
    """The metrics ``[2]`` that belong to u."""
    return np.asarray(np.array(BASES) * (1 + np.array(SIGNS) * size * u / 100))


def draw(tails: str, shape: Sequence[int], random: np.random.Generator) -> Array:
    """Noise of variance 1."""
    if tails == "t3":
        return random.standard_t(3, size=shape) / np.sqrt(3)
    return random.normal(size=shape)


@cache
def gain(
    tails: str, correlation: float, qualities: Sequence[float], loud: float, alone: bool
) -> float:
    """Expected u of the candidate that tuning chooses, by both tasks or by the one it learns ``alone``."""
    random, draws = np.random.default_rng(1), 500_000
    training, looked, tested = (draw(tails, (draws, len(qualities), 2), random) for _ in range(3))
    scale = loud * np.sqrt(2 * (1 - correlation))

    def split(noise: Array) -> Array:
        mixed = np.sqrt(1 - MEASURING) * training + np.sqrt(MEASURING) * noise
        both = scale * mixed
        return np.array(qualities) + (both[..., 0] if alone else both.mean(-1))

    chosen = split(looked).argmax(1)[:, None]
    return float(np.take_along_axis(split(tested), chosen, axis=1).mean())


def problem() -> Problem:
    """Two tasks with data for one batch: what a study looks at before its first trial."""
    metrics = [
        Metric(name=name, score=lambda out, y: 0.0, higher_is_better=sign > 0)
        for name, sign in zip(NAMES, SIGNS, strict=True)
    ]

    def data(name: str) -> Tensors:
        ones = torch.ones(8, 1)
        return Tensors(ones, dict.fromkeys(TASKS, ones))

    def model(tasks: list[str]) -> nn.Module:
        return TrunkAndHeads(nn.Linear(1, 2), {task: nn.Linear(2, 1) for task in tasks})

    loss: Callable[..., torch.Tensor] = functional.mse_loss
    tasks = tuple(
        Task(name=task, loss=loss, metrics=(metric,))
        for task, metric in zip(TASKS, metrics, strict=True)
    )
    return Problem(name="given", tasks=tasks, data=data, model=model)
