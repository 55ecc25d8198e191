"""Balances the losses of a multi-task network, and finds out, fairly, whether balancing helped."""

from typing import TYPE_CHECKING

from equipoise.balance import Balancer
from equipoise.diagnosis import Monitor, suggest
from equipoise.methods.base import Card, GramianMethod, JacobianMethod, LossMethod
from equipoise.methods.catalogue import method
from equipoise.solvers import NonFiniteError, SolverError

# The folder of this name can be called itself; a type checker takes no module for a function.
if TYPE_CHECKING:
    from equipoise.methods.catalogue import methods as methods

__version__ = "0.1.0"

__all__ = [
    "Balancer",
    "Card",
    "GramianMethod",
    "JacobianMethod",
    "LossMethod",
    "Monitor",
    "NonFiniteError",
    "SolverError",
    "__version__",
    "method",
    "methods",
    "suggest",
]
