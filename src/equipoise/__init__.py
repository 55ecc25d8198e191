"""Balances the losses of a multi-task network, and finds out, fairly, whether balancing helped."""

from equipoise.balance import Balancer
from equipoise.methods.catalogue import method, methods
from equipoise.solvers import SolverError

__version__ = "0.1.0"

__all__ = ["Balancer", "SolverError", "__version__", "method", "methods"]
