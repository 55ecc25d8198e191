"""The small optimisation problems that methods share: K x K, exact, batched, torch only."""

from equipoise.solvers.bargaining import bargaining
from equipoise.solvers.base import NonFiniteError, Solution, SolverError
from equipoise.solvers.cagrad_dual import cagrad_dual
from equipoise.solvers.complements import complements
from equipoise.solvers.cone import cone_direction
from equipoise.solvers.equal_cosines import equal_cosines, equal_projections
from equipoise.solvers.min_norm import min_norm
from equipoise.solvers.nonnegative_qp import dual_cone, nonnegative_qp
from equipoise.solvers.simplex import project_simplex
from equipoise.solvers.simplex_lp import simplex_lp
from equipoise.solvers.spectrum import spectrum

__all__ = [
    "NonFiniteError",
    "Solution",
    "SolverError",
    "bargaining",
    "cagrad_dual",
    "complements",
    "cone_direction",
    "dual_cone",
    "equal_cosines",
    "equal_projections",
    "min_norm",
    "nonnegative_qp",
    "project_simplex",
    "simplex_lp",
    "spectrum",
]
