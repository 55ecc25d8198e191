"""Where trials run: in this process, in worker processes, on a Ray cluster, as jobs of Slurm."""

from equipoise.study.executors.base import Executor, cores
from equipoise.study.executors.inline import Inline
from equipoise.study.executors.local import Local
from equipoise.study.executors.ray import Ray
from equipoise.study.executors.slurm import Slurm

__all__ = ["Executor", "Inline", "Local", "Ray", "Slurm", "cores"]
