"""Multi-task architectures and their parts."""

from equipoise.nn.architectures import ARCHITECTURES, architecture
from equipoise.nn.hard_sharing import TrunkAndHeads
from equipoise.nn.rotations import Rotations
from equipoise.nn.trunk import Share, Trunk

__all__ = ["ARCHITECTURES", "Rotations", "Share", "Trunk", "TrunkAndHeads", "architecture"]
