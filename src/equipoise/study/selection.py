"""Chooses learning rates (and searched options) by validation, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from equipoise.problems import Problem
from equipoise.study import protocols
from equipoise.study.protocols import Arm, Candidate
from equipoise.study.spec import Spec
from equipoise.study.statistics import Array, change, delta_m
from equipoise.study.store import Store, Stored
from equipoise.study.trial import SINGLE_TASK, Trial


@dataclass(frozen=True)
class Measure:
    """One column of the comparison: a metric of a task."""

    task: str
    metric: str
    higher_is_better: bool
    unit: str


@dataclass(frozen=True)
class Choice:
    """What tuning found for an arm.

    Attributes:
        candidate: the best on validation; None where no candidate finished with all its seeds.
        scores: of each candidate: Delta_m on validation against the tuned single-task networks (the
            first metric for a single-task arm), NaN where it diverged or failed.
        complete: whether every tuning trial has an outcome.
    """

    candidate: Candidate | None
    scores: Mapping[Candidate, float]
    complete: bool


def measures(problem: Problem) -> list[Measure]:
    """The columns of the comparison, task by task."""
    return [
        Measure(task.name, metric.name, metric.higher_is_better, metric.unit)
        for task in problem.tasks
        for metric in task.metrics
    ]


def describe(problem: Problem) -> dict[str, Any]:
    """What a report needs to know of a problem, so that it need not load it."""
    return {
        "name": problem.name,
        "about": problem.about,
        "cite": problem.cite,
        "measures": [asdict(measure) for measure in measures(problem)],
        "sizes": {name: len(problem.split(name)) for name in ("train", "validation")},
    }


class Measurements:
    """The metric rows of a store, by trial and split.

    Attributes:
        measures: the columns M.
        task_of: the task of each column, ``[M]``.
        higher: the direction of each column, ``[M]``.
    """

    def __init__(self, store: Store) -> None:
        described = store.get("problem")
        if described is None:
            raise ValueError(f"{str(store.path)!r} holds no study yet")
        self.measures = [Measure(**each) for each in described["measures"]]
        self.tasks = list(dict.fromkeys(measure.task for measure in self.measures))
        self.task_of = np.array([self.tasks.index(measure.task) for measure in self.measures])
        self.higher = np.array([measure.higher_is_better for measure in self.measures])
        self.trials: dict[str, Stored] = store.trials()
        self._values: dict[tuple[str, str], dict[int, dict[tuple[str, str], float]]] = {}
        for trial, epoch, split, task, metric, value in store.table("metric")[1]:
            at = self._values.setdefault((trial, split), {}).setdefault(epoch, {})
            at[task, metric] = value

    def finished(self, trial: Trial) -> bool:
        """Whether the trial came to its end with finite numbers."""
        stored = self.trials.get(trial.id)
        return stored is not None and stored.status == "done"

    def known(self, trial: Trial) -> bool:
        """Whether the trial has an outcome of any kind."""
        return trial.id in self.trials

    def curve(self, trial: Trial, split: str) -> dict[int, dict[tuple[str, str], float]]:
        """Every epoch's values by (task, metric); the loss among them."""
        return self._values.get((trial.id, split), {})

    def last(self, trial: Trial, split: str) -> Array:
        """The values after the last epoch, ``[M]``; NaN for tasks the trial did not learn, or all NaN."""
        row = np.full(len(self.measures), np.nan)
        epochs = self.curve(trial, split)
        if self.finished(trial) and epochs:
            found = epochs[max(epochs)]
            for place, measure in enumerate(self.measures):
                row[place] = found.get((measure.task, measure.metric), np.nan)
        return row

    def single_task(self, trials: Mapping[str, Sequence[Trial]], split: str) -> Array:
        """Scores ``[S, M]`` of single-task trials, given by task in the order of the seeds."""
        columns = np.full((max(map(len, trials.values())), len(self.measures)), np.nan)
        for task, own in trials.items():
            for seed, trial in enumerate(own):
                mine = self.task_of == self.tasks.index(task)
                columns[seed, mine] = self.last(trial, split)[mine]
        return columns


def choose(spec: Spec, arms: Sequence[Arm], found: Measurements) -> dict[str, Choice]:
    """The choice of each arm, by label.

    A single-task network is chosen by the first metric of its task; every other arm by Delta_m against
    the chosen single-task networks. Only rows of the validation split are read.
    """
    choices: dict[str, Choice] = {}
    reference = np.full(len(found.measures), np.nan)
    for arm in sorted(arms, key=lambda each: each.method != SINGLE_TASK):
        grid = protocols.tuning(spec, arm)
        means = {
            candidate: np.mean([found.last(trial, "validation") for trial in trials], axis=0)
            for candidate, trials in grid.items()
        }
        if arm.task is not None:
            mine = found.task_of == found.tasks.index(arm.task)
            first = int(np.flatnonzero(mine)[0])
            sign = 1.0 if found.higher[first] else -1.0
            scores = {candidate: sign * float(row[first]) for candidate, row in means.items()}
        else:
            scores = {
                candidate: float(
                    delta_m(change(row, reference[None], found.higher).values, found.task_of)
                )
                for candidate, row in means.items()
            }
        complete = all(found.known(trial) for trials in grid.values() for trial in trials)
        finite = {candidate: score for candidate, score in scores.items() if np.isfinite(score)}
        best = max(finite, key=finite.__getitem__) if finite and complete else None
        choices[arm.label] = Choice(best, scores, complete)
        if arm.task is not None and best is not None:
            reference[mine] = means[best][mine]
    return choices
