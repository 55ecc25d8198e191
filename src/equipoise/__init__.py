"""Balances the losses of a multi-task network, and finds out, fairly, whether balancing helped."""

from equipoise.methods.catalogue import method, methods

__version__ = "0.1.0"

__all__ = ["__version__", "method", "methods"]
