"""Studies of many tasks with long names, whose numbers are given instead of trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from equipoise.problems import Problem, Task, Tensors, TrunkAndHeads, rmse
from equipoise.study import Inline, Result, Trial, parse, run
from equipoise.study.trial import Cost, GradientRow, MetricRow, WeightRow

HERE = str(Path(__file__).resolve())
LONG = "a method whose label is so long that no axis has room {:02d}"
EPOCHS = 3


def names(tasks: int) -> list[str]:
    """Names of 40 letters that differ in the middle."""
    return [
        f"task_{number:02d}_of_a_long_list_of_quantities_{'x' * 9}"[:40] for number in range(tasks)
    ]


def wide(tasks: int = 10) -> Problem:
    def data(split: str) -> Tensors:
        return Tensors(torch.randn(16, 3), {name: torch.randn(16, 1) for name in names(tasks)})

    def model(chosen: list[str]) -> nn.Module:
        return TrunkAndHeads(nn.Linear(3, 2), {task: nn.Linear(2, 1) for task in chosen})

    own = tuple(Task(name=n, loss=functional.mse_loss, metrics=(rmse(),)) for n in names(tasks))
    return Problem(name="wide", tasks=own, data=data, model=model)


def outcome(trial: Trial) -> Result:
    every = sorted({trial.task}) if trial.task else names(_tasks(trial))
    random = np.random.default_rng(
        [trial.seed, round(1e4 * trial.learning_rate), len(trial.method)]
    )
    splits = ["validation"] + ["test"] * (trial.stage == "final")
    return Result(
        status="done",
        note="",
        metrics=tuple(
            MetricRow(epoch, split, task, "rmse", float(random.uniform(0.9, 1.1)) / epoch)
            for split in splits
            for epoch in (range(1, EPOCHS + 1) if split == "validation" else [EPOCHS])
            for task in every
        ),
        weights=()
        if trial.task
        else tuple(
            WeightRow(epoch, task, float(random.uniform(0.1, 2)), 0.1)
            for epoch in range(1, EPOCHS + 1)
            for task in every
        ),
        gradients=()
        if trial.task
        else tuple(
            GradientRow(EPOCHS, one, other, 2.0 ** (place % 5) if one == other else 0.1)
            for place, one in enumerate(every)
            for other in every[place:]
        ),
        cost=Cost(
            steps=10,
            samples=80,
            forwards=10,
            backwards=10,
            step_ms=1 + len(trial.method) / 9,
            seconds=0.1,
        ),
        initial=f"weights of seed {trial.seed}",
        order=f"batches of seed {trial.seed}",
        threads=1,
    )


def _tasks(trial: Trial) -> int:
    return int(json.loads(trial.problem_options)["tasks"])


def study(path: Path, tasks: int, methods: int = 2) -> Path:
    """A study of so many tasks, with so many methods of long labels."""
    spec = parse(
        {
            "problem": f"{HERE}:wide",
            "problem_options": {"tasks": tasks},
            "methods": [
                {"id": "cagrad", "options": {"c": 0.1 + number / 50}, "label": LONG.format(number)}
                for number in range(methods)
            ],
            "learning_rates": [0.01, 0.1],
            "epochs": EPOCHS,
            "batch_size": 8,
            "seeds": 3,
            "tuning": "once",
        }
    )
    run(spec, path, Inline(outcome))
    return path
