"""Data sets on disk: where they lie, what is wrong with them, and how they are decoded once."""

from equipoise.problems.files.data_set import PLACE, DataError, DataSet, opened
from equipoise.problems.files.needs import needs
from equipoise.problems.files.prepared import Recipe, build, ready

__all__ = ["PLACE", "DataError", "DataSet", "Recipe", "build", "needs", "opened", "ready"]
