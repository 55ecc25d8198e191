"""Task gradients of given rank, by what the hull of them has to do with the origin."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Hull = Literal["any", "apart", "face", "inside"]
"""Where the origin lies: anywhere, outside of the hull, in a face of it, or inside."""

HULLS: tuple[Hull, ...] = ("any", "apart", "face", "inside")


def hull(
    seed: int,
    tasks: int,
    size: int,
    rank: int,
    kind: Hull = "any",
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """``Tensor[tasks, size]`` of the given rank, rounded to ``dtype``.

    The left singular vectors decide: one that is positive keeps the origin out of the hull, one that is
    missing and not negative puts it in, on a face where some of its entries are zero. Rounding moves
    the origin out of a face, or into the hull, by as little as ``dtype`` can tell: such gradients are
    nearly, but not quite, dependent.
    """
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    first = normal(tasks, 0)
    if kind in ("apart", "inside"):
        first = normal(tasks, 1).abs()
    elif kind == "face":
        order = torch.randperm(tasks, generator=draw)
        inner = order[: int(torch.randint(1, tasks, (), generator=draw))]
        first = torch.zeros(tasks, 2, dtype=torch.float64)
        first[:, 1] = normal(tasks).abs()
        first[inner, 0] = first[inner, 1]
        first[inner, 1] = 0.0
    left = torch.linalg.qr(torch.cat([first, normal(tasks, tasks - first.shape[1])], 1))[0]
    left = left[:, 1 if kind in ("face", "inside") else 0 :][:, :rank]
    right = torch.linalg.qr(normal(size, size))[0][:rank]
    return ((left * normal(rank).abs()) @ right).to(dtype)
