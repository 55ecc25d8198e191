"""The Gramian of task gradients."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

# Columns turned to float64 at once: large enough to keep the product busy, small enough for the cache.
_CHUNK = 1 << 16


def gramian(parts: Iterable[Tensor]) -> Tensor:
    """Inner products ``Tensor[K, K]`` of the rows of ``[part_1, part_2, ...]``, in float64 on the CPU.

    Products of half or single precision entries are exact in float64, so that nearly parallel gradients
    keep their difference.

    Args:
        parts: blocks ``Tensor[K, P_m]`` of the task gradients.
    """
    total: Tensor | None = None
    for part in parts:
        for block in torch.split(part, _CHUNK, dim=-1):
            rows = block if block.dtype == torch.float64 else block.double()
            total = rows @ rows.mT if total is None else torch.addmm(total, rows, rows.mT)
    if total is None:
        raise ValueError("there are no task gradients to take inner products of")
    return total.cpu()
