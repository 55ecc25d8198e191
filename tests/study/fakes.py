"""Studies whose numbers are given instead of trained, so that what they say can be checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import tiny

from equipoise.study import Findings, Inline, Result, Spec, Store, Trial, findings, parse, run
from equipoise.study.trial import Cost, MetricRow, WeightRow

# What a network of task "a" reaches in rmse and mae (lower is better), and one of "b" in score.
Scores = Callable[[Trial], tuple[float, float, float]]
NAMES = (("a", "rmse"), ("a", "mae"), ("b", "score"))


def result(trial: Trial, scores: tuple[float, float, float], step_ms: float = 1.0) -> Result:
    """A result as :func:`equipoise.study.train.run` gives it, with these scores."""
    splits = ["validation"] + (["test"] if trial.stage == "final" else [])
    metrics = tuple(
        MetricRow(trial.epochs, split, task, name, score)
        for split in splits
        for (task, name), score in zip(NAMES, scores, strict=True)
        if trial.task in (None, task)
    )
    cost = Cost(steps=10, samples=80, forwards=10, backwards=10, step_ms=step_ms, seconds=0.1)
    return Result(
        status="done",
        note="",
        metrics=metrics,
        weights=() if trial.task else (WeightRow(1, "a", 0.5, 0.1), WeightRow(1, "b", 0.5, 0.1)),
        gradients=(),
        cost=cost,
        initial=f"weights of seed {trial.seed}",
        order=f"batches of seed {trial.seed}",
        threads=1,
    )


def with_losses(trial: Trial, a: float, b: float, **more: dict[str, float]) -> Result:
    """A result whose losses are given: of a and b on all splits, and others by split."""
    done = result(trial, (a, a, 10 - b))
    splits = {"train": {}, "validation": {}, "test": {}, **more}
    rows = tuple(
        MetricRow(trial.epochs, split, task, "loss", own.get(task, loss))
        for split, own in splits.items()
        for task, loss in (("a", a), ("b", b))
        if trial.task in (None, task)
    )
    return replace(done, metrics=(*done.metrics, *rows))


def ran(folder: Path, outcome: Callable[[Trial], Result], **changes: object) -> Findings:
    """The findings of a study in which each trial ends with this outcome."""
    path = folder / "fake.db"
    run(spec(**changes), path, Inline(outcome))
    with Store(path) as store:
        return findings(store)


def spec(**changes: object) -> Spec:
    content = {
        "problem": f"{tiny.HERE}:tiny",
        "learning_rates": [0.001, 0.01, 0.1],
        "epochs": 2,
        "batch_size": 8,
        "tuning": "once",
    }
    return parse({**content, **changes})


def study(folder: Path, scores: Scores, **changes: object) -> Findings:
    """The findings of a study in which each trial reaches ``scores(trial)``."""
    return ran(folder, lambda trial: result(trial, scores(trial)), **changes)
