"""The small optimisation problems that methods share: K x K, exact, batched, torch only."""

from equipoise.solvers.base import Solution, SolverError

__all__ = ["Solution", "SolverError"]
