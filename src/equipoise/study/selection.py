"""What was measured, as the choice of settings and all findings read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from equipoise.problems import Problem, SplitName
from equipoise.study.loading import parse
from equipoise.study.rehearsal import first_losses
from equipoise.study.spec import Spec
from equipoise.study.statistics import Array
from equipoise.study.store import Store, Stored
from equipoise.study.trial import Trial, with_options

_TUNED: tuple[SplitName, ...] = ("train", "validation")


@dataclass(frozen=True)
class Measure:
    """One column of the comparison: a metric of a task."""

    task: str
    metric: str
    higher_is_better: bool
    unit: str


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


def study_of(store: Store) -> Spec:
    """The study of a store.

    Raises:
        ValueError: it holds none yet.
    """
    content = store.get("spec")
    if content is None:
        raise ValueError(f"{str(store.path)!r} holds no study yet")
    return parse(content, str(store.path), stored=True)


def described(store: Store, spec: Spec) -> dict[str, Any]:
    """What :func:`describe` told of the problem of a study, at one setting of what it sweeps."""
    told: dict[str, Any] = store.get("problems")[with_options(spec.problem_options)]
    return told


class Measurements:
    """What trials measured, by trial and split.

    Args:
        told: by :func:`describe`.
        store: where trials are; None where none has run.

    Attributes:
        measures: the columns M.
        task_of: the task of each column, ``[M]``.
        higher: the direction of each column, ``[M]``.
    """

    def __init__(self, told: Mapping[str, Any], store: Store | None = None) -> None:
        self.measures = [Measure(**each) for each in told["measures"]]
        self.tasks = list(dict.fromkeys(measure.task for measure in self.measures))
        self.task_of = np.array([self.tasks.index(measure.task) for measure in self.measures])
        self.higher = np.array([measure.higher_is_better for measure in self.measures])
        self.trials: dict[str, Stored] = {} if store is None else store.trials()
        self._values: dict[tuple[str, str], dict[int, dict[tuple[str, str], float]]] = {}
        self._weights: dict[str, dict[str, list[float]]] = {}
        # Candidates that a search named, by what it searches and the seed.
        self.named: dict[str, list[Any]] = {} if store is None else store.get("named") or {}
        if store is None:
            return
        for trial, epoch, split, task, metric, value in store.table("metric")[1]:
            at = self._values.setdefault((trial, split), {}).setdefault(epoch, {})
            at[task, metric] = value
        for trial, _, task, mean, _ in store.table("weight")[1]:
            self._weights.setdefault(trial, {}).setdefault(task, []).append(mean)

    def floors(self, given: Mapping[str, float]) -> Array:
        """The sizes up to which a reference counts as near zero, ``[M]``; NaN where none is given."""
        names = [f"{measure.task}/{measure.metric}" for measure in self.measures]
        return np.array([given.get(name, np.nan) for name in names])

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

    def weights(self, trial: Trial) -> dict[str, float]:
        """The mean weight of each task over all epochs; empty where none was recorded."""
        return {task: float(np.mean(w)) for task, w in self._weights.get(trial.id, {}).items()}

    def row(self, values: Mapping[tuple[str, str], float]) -> Array:
        """Values in the order of the columns, ``[M]``; NaN where there is none."""
        return np.array([values.get((m.task, m.metric), np.nan) for m in self.measures])

    def last(self, trial: Trial | None, split: str) -> Array:
        """The values after the last epoch, ``[M]``; NaN for tasks the trial did not learn, or all NaN."""
        epochs = {} if trial is None or not self.finished(trial) else self.curve(trial, split)
        return self.row(epochs[max(epochs)] if epochs else {})

    def losses(self, trial: Trial | None, split: str) -> Array:
        """The losses of all tasks after the last epoch, ``[K]``; NaN where there is none."""
        epochs = {} if trial is None or not self.finished(trial) else self.curve(trial, split)
        found = epochs[max(epochs)] if epochs else {}
        return np.array([found.get((task, "loss"), np.nan) for task in self.tasks])

    def gapless(self, single: Array) -> Array:
        """Rows of single-task networks without gaps, ``[S', M]``.

        Those of a task are networks of their own: one that did not finish takes no other task's with it.
        """
        columns = [single[:, self.task_of == task] for task in range(len(self.tasks))]
        finished = [own[np.isfinite(own).all(1)] for own in columns]
        count = min(map(len, finished))
        out = np.full((count, single.shape[1]), np.nan)
        for task, own in enumerate(finished):
            out[:, self.task_of == task] = own[:count]
        return out

    def single_task(self, trials: Mapping[str, Sequence[Trial | None]], split: str) -> Array:
        """Scores ``[S, M]`` of single-task trials, given by task in the order of the seeds."""
        columns = np.full((max(map(len, trials.values())), len(self.measures)), np.nan)
        for task, own in trials.items():
            for seed, trial in enumerate(own):
                mine = self.task_of == self.tasks.index(task)
                columns[seed, mine] = self.last(trial, split)[mine]
        return columns
