"""Multi-task architectures and their parts."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from equipoise.nn.architectures import ARCHITECTURES, architecture
from equipoise.nn.batched_heads import BatchedHeads
from equipoise.nn.hard_sharing import TrunkAndHeads
from equipoise.nn.multitask import MultiTask
from equipoise.nn.rotations import Rotations
from equipoise.nn.trunk import Share, Trunk

if TYPE_CHECKING:
    from equipoise.nn.adapters import Adapters
    from equipoise.nn.cgc import CGC
    from equipoise.nn.cross_stitch import CrossStitch
    from equipoise.nn.dselect_k import DSelectK
    from equipoise.nn.ltb import LTB
    from equipoise.nn.mmoe import MMoE
    from equipoise.nn.mtan import MTAN
    from equipoise.nn.nddr import NDDR
    from equipoise.nn.ple import PLE

__all__ = [
    "ARCHITECTURES",
    "CGC",
    "LTB",
    "MTAN",
    "NDDR",
    "PLE",
    "Adapters",
    "BatchedHeads",
    "CrossStitch",
    "DSelectK",
    "MMoE",
    "MultiTask",
    "Rotations",
    "Share",
    "Trunk",
    "TrunkAndHeads",
    "architecture",
]

# Read from their files when they are asked for.
_PLACES = {kind: module for module, _, kind in (p.partition(":") for p in ARCHITECTURES.values())}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"equipoise.nn.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
