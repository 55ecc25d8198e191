"""Benchmark problems: data, tasks, losses, metrics and models."""

from equipoise.nn import TrunkAndHeads
from equipoise.problems.base import Problem, SplitName
from equipoise.problems.catalogue import PROBLEMS, data_sets, presets, problem
from equipoise.problems.data import Batch, Loader, Source, Tensors
from equipoise.problems.files import DataError, DataSet, Recipe
from equipoise.problems.fingerprint import fingerprint
from equipoise.problems.metrics import accuracy, mean_absolute_error, rmse
from equipoise.problems.nesting import ByTask
from equipoise.problems.per_task import PerTask, TaskSampler
from equipoise.problems.tasks import Metric, Task

__all__ = [
    "PROBLEMS",
    "Batch",
    "ByTask",
    "DataError",
    "DataSet",
    "Loader",
    "Metric",
    "PerTask",
    "Problem",
    "Recipe",
    "Source",
    "SplitName",
    "Task",
    "TaskSampler",
    "Tensors",
    "TrunkAndHeads",
    "accuracy",
    "data_sets",
    "fingerprint",
    "mean_absolute_error",
    "presets",
    "problem",
    "rmse",
]
