"""Products with task gradients, at the precision that weights need."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_CHUNK = 1 << 16


def gramian(parts: Iterable[Tensor]) -> Tensor:
    """Inner products."""
    total: Tensor | None = None
    for part in parts:
        for block in torch.split(part, _CHUNK, dim=-1):
            rows = block if block.dtype == torch.float64 else block.double()
            total = rows @ rows.mT if total is None else torch.addmm(total, rows, rows.mT)
    if total is None:
        raise ValueError("there are no task gradients to take inner products of")
    return total.cpu()


def combine(weights: Tensor, rows: Tensor, gramian: Tensor | None = None) -> Tensor:
    """The weighted sum."""
    return (weights.to(rows).unsqueeze(-2) @ rows).squeeze(-2)
