"""What a study says beyond its comparison: fronts, sensitivity, size, and the way to the minimum."""

from equipoise.study.analyses.front import Front, Method, Point, dominated, fronts
from equipoise.study.analyses.minima import Convergence, Flatness, convergence, flatness
from equipoise.study.analyses.per_task import TaskDifference, per_task
from equipoise.study.analyses.sensitivity import Sparse, sparse_grids, variance_of
from equipoise.study.analyses.sweep import Size, sizes

__all__ = [
    "Convergence",
    "Flatness",
    "Front",
    "Method",
    "Point",
    "Size",
    "Sparse",
    "TaskDifference",
    "convergence",
    "dominated",
    "flatness",
    "fronts",
    "per_task",
    "sizes",
    "sparse_grids",
    "variance_of",
]
