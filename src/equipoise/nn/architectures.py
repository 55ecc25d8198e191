"""Finds an architecture by its name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from torch import nn

from equipoise.nn.trunk import Trunk

# By reference, one file each; every class is built as ``Class.over(trunk, heads, **options)``.
ARCHITECTURES: Mapping[str, str] = {
    "hard_sharing": "hard_sharing:TrunkAndHeads",
    "cross_stitch": "cross_stitch:CrossStitch",
    "nddr": "nddr:NDDR",
    "mtan": "mtan:MTAN",
    "mmoe": "mmoe:MMoE",
    "cgc": "cgc:CGC",
    "ple": "ple:PLE",
    "ltb": "ltb:LTB",
    "dselect_k": "dselect_k:DSelectK",
    "adapters": "adapters:Adapters",
}


def architecture(
    name: str, trunk: Trunk, heads: Mapping[str, nn.Module], **options: Any
) -> nn.Module:
    """A fresh multi-task network.

    Args:
        name: of :data:`ARCHITECTURES`.
        trunk: the network that tasks share, or of which they have copies or experts.
        heads: by task, from features to outputs.
        options: of the architecture.

    Raises:
        ValueError: there is no such architecture, or it does not take these options or this trunk.
    """
    if name not in ARCHITECTURES:
        near = get_close_matches(name, ARCHITECTURES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"there is no architecture {name!r}; {hint}known: {', '.join(ARCHITECTURES)}"
        )
    module, _, kind = ARCHITECTURES[name].partition(":")
    build = getattr(importlib.import_module(f"equipoise.nn.{module}"), kind).over
    try:
        inspect.signature(build).bind(trunk, heads, **options)
    except TypeError as error:
        takes = ", ".join(list(inspect.signature(build).parameters)[2:]) or "none"
        raise ValueError(
            f"architecture {name!r} does not take these options ({error}); it takes: {takes}"
        ) from None
    built: nn.Module = build(trunk, heads, **options)
    return built
