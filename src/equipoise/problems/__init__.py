"""Benchmark problems: data, tasks, losses, metrics and models."""

from equipoise.problems.base import Problem, SplitName, TrunkAndHeads
from equipoise.problems.catalogue import PROBLEMS, fingerprint, problem
from equipoise.problems.data import Batch, Loader, Source, Tensors
from equipoise.problems.metrics import accuracy, mean_absolute_error, rmse
from equipoise.problems.nesting import ByTask
from equipoise.problems.per_task import PerTask, TaskSampler
from equipoise.problems.tasks import Metric, Task

__all__ = [
    "PROBLEMS",
    "Batch",
    "ByTask",
    "Loader",
    "Metric",
    "PerTask",
    "Problem",
    "Source",
    "SplitName",
    "Task",
    "TaskSampler",
    "Tensors",
    "TrunkAndHeads",
    "accuracy",
    "fingerprint",
    "mean_absolute_error",
    "problem",
    "rmse",
]
