"""Benchmark problems: data, tasks, losses, metrics and models."""

from equipoise.problems.base import Metric, Problem, SplitName, Task, TrunkAndHeads
from equipoise.problems.catalogue import PROBLEMS, fingerprint, problem
from equipoise.problems.data import Batch, ByTask, Loader, PerTask, Source, TaskSampler, Tensors
from equipoise.problems.metrics import accuracy, mean_absolute_error, rmse

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
