"""Benchmark problems: data, tasks, losses, metrics and models."""

from equipoise.problems.base import Metric, Problem, Split, SplitName, Task, TrunkAndHeads
from equipoise.problems.catalogue import PROBLEMS, fingerprint, problem
from equipoise.problems.metrics import accuracy, mean_absolute_error, rmse

__all__ = [
    "PROBLEMS",
    "Metric",
    "Problem",
    "Split",
    "SplitName",
    "Task",
    "TrunkAndHeads",
    "accuracy",
    "fingerprint",
    "mean_absolute_error",
    "problem",
    "rmse",
]
