"""Multi-task architectures and their parts."""

from equipoise.nn.rotations import Rotations

__all__ = ["Rotations"]
