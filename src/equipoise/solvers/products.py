"""Inner products of task gradients, and their weighted sum, to the precision that weights need."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt

import torch
from torch import Tensor

# Columns turned to float64 at once: large enough to keep the product busy, small enough for the cache.
_CHUNK = 1 << 16

# Entries turned to float64 at once where a call costs more than what it computes.
_LAUNCH = 1 << 24

# How much longer than their sum the weighted gradients may be in single precision: its rounding of the
# weights and of the sum, 6e-8 each, then tilts the sum by less than 1e-6.
CANCEL = 4.0


def gramian(parts: Iterable[Tensor]) -> Tensor:
    """Inner products ``Tensor[K, K]`` of the rows of ``[part_1, part_2, ...]``, in float64.

    Products of half or single precision entries are exact in float64, so that nearly parallel gradients
    keep their difference.

    Args:
        parts: blocks ``Tensor[K, P_m]`` of the task gradients.
    """
    total: Tensor | None = None
    for part in parts:
        for block in _blocks(part, _CHUNK):
            rows = block if block.dtype == torch.float64 else block.double()
            total = rows @ rows.mT if total is None else torch.addmm(total, rows, rows.mT)
    if total is None:
        raise ValueError("there are no task gradients to take inner products of")
    return total


def combine(
    weights: Tensor,
    rows: Tensor,
    gramian: Tensor | None = None,
    *,
    wide: bool | None = None,
) -> Tensor:
    r"""The weighted sum of task gradients, :math:`d = \sum_k w_k g_k`, in their dtype.

    Large weights whose gradients nearly cancel leave nothing but rounding in single precision, and a
    sum that conflicts with what it should not. Where :math:`\sum_k |w_k| \|g_k\|` is more than a few
    times :math:`\|d\|`, or nothing is known of it, the weights are applied in float64, a few columns at
    a time, which costs less than to find out from the rows; so are those of half precision.

    Args:
        weights: w, ``Tensor[..., K]``.
        rows: the task gradients, ``Tensor[..., K, P]``.
        gramian: their inner products, ``Tensor[..., K, K]``, where they are known.
        wide: whether the weighted gradients nearly cancel, where that is known already.

    Returns:
        ``Tensor[..., P]``.
    """
    plain = rows.dtype == torch.float64 or rows.is_complex()
    if rows.dtype == torch.float32:
        if wide is None and gramian is not None:
            wide = cancels(weights, gramian)
        plain = wide is False
    if plain:
        return _sum(weights, rows)
    width = _CHUNK if rows.device.type == "cpu" else max(_LAUNCH // rows.shape[-2], 1)
    blocks = [_sum(weights, block.double()).to(rows) for block in _blocks(rows, width)]
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, -1)


def _blocks(rows: Tensor, width: int) -> tuple[Tensor, ...]:
    return (rows,) if rows.shape[-1] <= width else torch.split(rows, width, dim=-1)


def _sum(weights: Tensor, rows: Tensor) -> Tensor:
    if weights.ndim == 1:
        return weights.to(rows) @ rows
    return (weights.to(rows).unsqueeze(-2) @ rows).squeeze(-2)


def cancels(weights: Tensor, gramian: Tensor) -> bool:
    """Whether some weighted gradients are much longer than their sum."""
    if gramian.ndim > 2:
        w = weights.to(gramian)
        terms = (w.abs() * gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt()).sum(-1)
        squares = (w * (gramian @ w.unsqueeze(-1)).squeeze(-1)).sum(-1)
        return not (terms.square() <= CANCEL**2 * squares).all().tolist()
    size = square = 0.0
    given = weights.tolist()
    for i, (w, row) in enumerate(zip(given, gramian.tolist(), strict=True)):
        size += abs(w) * sqrt(max(row[i], 0.0))
        square += w * sum([v * g for v, g in zip(given, row, strict=True)])
    return not size * size <= CANCEL**2 * square
