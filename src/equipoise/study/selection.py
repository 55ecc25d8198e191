"""Chooses learning rates (and searched options) by validation, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from equipoise.problems import Problem, SplitName
from equipoise.study import protocols
from equipoise.study.protocols import Arm, Candidate
from equipoise.study.rehearsal import first_losses
from equipoise.study.spec import Spec
from equipoise.study.statistics import Array, change, delta_m
from equipoise.study.store import Store, Stored
from equipoise.study.trial import SINGLE_TASK, Trial

_TUNED: tuple[SplitName, ...] = ("train", "validation")


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
        by_seed: the best candidate on validation of each seed of the study; None where no candidate finished,
            or not all are known. Where tuning is done once, all are the same.
        scores_by_seed: of each candidate, for each seed: Delta_m on validation against the tuned single-task
            networks (the first metric for a single-task arm), NaN where it diverged or failed.
        complete: whether every tuning trial has an outcome.
    """

    by_seed: tuple[Candidate | None, ...]
    scores_by_seed: Mapping[Candidate, tuple[float, ...]]
    complete: bool

    @property
    def candidate(self) -> Candidate | None:
        """The candidate that most seeds chose; of several, the one with the best score."""
        chosen = [each for each in self.by_seed if each is not None]
        if not chosen:
            return None
        return max(set(chosen), key=lambda each: (chosen.count(each), self.scores[each]))

    @property
    def scores(self) -> dict[Candidate, float]:
        """The mean score of each candidate over its seeds, NaN where one is missing."""
        return {each: float(np.mean(scores)) for each, scores in self.scores_by_seed.items()}


def measures(problem: Problem) -> list[Measure]:
    """The columns of the comparison, task by task."""
    return [
        Measure(task.name, metric.name, metric.higher_is_better, metric.unit)
        for task in problem.tasks
        for metric in task.metrics
    ]


def describe(problem: Problem, device: str = "cpu") -> dict[str, Any]:
    """What a report needs to know of a problem, so that it need not load it."""
    return {
        "name": problem.name,
        "about": problem.about,
        "cite": problem.cite,
        "measures": [asdict(measure) for measure in measures(problem)],
        "sizes": {split: len(problem.source(split)) for split in _TUNED},
        "first_losses": first_losses(problem, device),
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

    def last(self, trial: Trial | None, split: str) -> Array:
        """The values after the last epoch, ``[M]``; NaN for tasks the trial did not learn, or all NaN."""
        row = np.full(len(self.measures), np.nan)
        if trial is None:
            return row
        epochs = self.curve(trial, split)
        if self.finished(trial) and epochs:
            found = epochs[max(epochs)]
            for place, measure in enumerate(self.measures):
                row[place] = found.get((measure.task, measure.metric), np.nan)
        return row

    def single_task(self, trials: Mapping[str, Sequence[Trial | None]], split: str) -> Array:
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
    the mean of the chosen single-task networks. Only rows of the validation split are read.
    """
    choices: dict[str, Choice] = {}
    reference = np.full(len(found.measures), np.nan)
    for arm in sorted(arms, key=lambda each: each.method != SINGLE_TASK):
        grid = protocols.tuning(spec, arm)
        # [C, S, M]; all seeds are alike where they are tuned once.
        rows = np.array(
            [[found.last(trial, "validation") for trial in trials] for trials in grid.values()]
        )
        if spec.tuning == "once":
            rows = np.repeat(rows.mean(1, keepdims=True), len(spec.seeds), axis=1)
        if arm.task is not None:
            mine = found.task_of == found.tasks.index(arm.task)
            first = int(np.flatnonzero(mine)[0])
            scores = rows[..., first] * (1.0 if found.higher[first] else -1.0)
        else:
            if not np.isfinite(reference).all():
                reference = _without_single_task(spec, arms, found, reference)
            scores = delta_m(change(rows, reference[None], found.higher).values, found.task_of)
        complete = all(found.known(trial) for trials in grid.values() for trial in trials)
        best = [_best(list(grid), column) if complete else None for column in scores.T]
        given = {c: tuple(map(float, own)) for c, own in zip(grid, scores, strict=True)}
        choices[arm.label] = Choice(tuple(best), given, complete)
        if arm.task is not None:
            order = list(grid)
            chosen = [rows[order.index(c), s][mine] for s, c in enumerate(best) if c is not None]
            if chosen:
                reference[mine] = np.mean(chosen, axis=0)
    return choices


def _without_single_task(
    spec: Spec, arms: Sequence[Arm], found: Measurements, reference: Array
) -> Array:
    """The reference, with the mean of equal weights where no single-task network of a task finished."""
    equal = next(arm for arm in arms if arm.label == "ew")
    trials = [trial for own in protocols.tuning(spec, equal).values() for trial in own]
    rows = np.array([found.last(trial, "validation") for trial in trials])
    rows = rows[np.isfinite(rows).all(1)]
    if not len(rows):
        return reference
    return np.where(np.isfinite(reference), reference, rows.mean(0))


def _best(candidates: Sequence[Candidate], scores: Array) -> Candidate | None:
    finite = np.flatnonzero(np.isfinite(scores))
    return candidates[int(finite[np.argmax(scores[finite])])] if len(finite) else None
