"""What a study says beyond its comparison: fronts, sensitivity, size, and the way to the minimum."""

from equipoise.study.analyses.front import Front, Method, Point, fronts
from equipoise.study.analyses.minima import Convergence, Flatness, convergence, flatness
from equipoise.study.analyses.per_task import TaskDifference, per_task
from equipoise.study.analyses.robust import (
    Robust,
    Stability,
    profiles,
    robust_of,
    runs_of,
    stability_of,
)
from equipoise.study.analyses.sensitivity import Sparse, sparse_grids, variance_of
from equipoise.study.analyses.sweep import Size, sizes

__all__ = [
    "Convergence",
    "Flatness",
    "Front",
    "Method",
    "Point",
    "Robust",
    "Size",
    "Sparse",
    "Stability",
    "TaskDifference",
    "convergence",
    "flatness",
    "fronts",
    "per_task",
    "profiles",
    "robust_of",
    "runs_of",
    "sizes",
    "sparse_grids",
    "stability_of",
    "variance_of",
]
