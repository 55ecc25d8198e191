"""Inner products of task gradients, and their weighted sum, to the precision that weights need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import sqrt

import torch
from torch import Tensor

# K rows: one tensor, or each by itself.
Rows = Tensor | Sequence[Tensor]

# Entries turned to float64 at once: enough to keep the product busy, few enough for the cache.
_CHUNK = 1 << 17

# Entries turned to float64 at once where a call costs more than what it computes.
_LAUNCH = 1 << 24

# How much longer than their sum the weighted gradients may be in single precision: its rounding of the
# weights and of the sum, 6e-8 each, then tilts the sum by less than 1e-6.
CANCEL = 4.0


def gramian(parts: Iterable[Rows]) -> Tensor:
    """Inner products ``Tensor[K, K]`` of the rows of ``[part_1, part_2, ...]``, in float64.

    Products of half or single precision entries are exact in float64, so that nearly parallel gradients
    keep their difference.

    Args:
        parts: blocks of the task gradients, each ``Tensor[K, P_m]`` or K tensors.
    """
    total: Tensor | None = None
    for part in parts:
        for rows in _wide_blocks(part):
            total = rows @ rows.mT if total is None else torch.addmm(total, rows, rows.mT)
            del rows
    if total is None:
        raise ValueError("there are no task gradients to take inner products of")
    return total


def combine(
    weights: Tensor,
    rows: Rows,
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
        rows: the task gradients, ``Tensor[..., K, P]``, or K tensors of any shape.
        gramian: their inner products, ``Tensor[..., K, K]``, where they are known.
        wide: whether the weighted gradients nearly cancel, where that is known already.

    Returns:
        ``Tensor[..., P]``, or of the shape of the K tensors.
    """
    first = rows if isinstance(rows, Tensor) else rows[0]
    plain = first.dtype == torch.float64 or first.is_complex()
    if first.dtype == torch.float32:
        if wide is None and gramian is not None:
            wide = cancels(weights, gramian)
        plain = wide is False
    if plain:
        return _sum(weights, rows) if isinstance(rows, Tensor) else _added(weights, rows)
    blocks = [_sum(weights, block).to(first) for block in _wide_blocks(rows)]
    out = blocks[0] if len(blocks) == 1 else torch.cat(blocks, -1)
    return out if isinstance(rows, Tensor) else out.view(first.shape)


def _wide_blocks(rows: Rows) -> Iterator[Tensor]:
    """Some columns of all rows after the other, in float64."""
    first = rows if isinstance(rows, Tensor) else rows[0]
    count = rows.shape[-2] if isinstance(rows, Tensor) else len(rows)
    entries = _CHUNK if first.device.type == "cpu" else _LAUNCH
    width = max(entries // count, 1)
    if isinstance(rows, Tensor):
        for block in (rows,) if rows.shape[-1] <= width else torch.split(rows, width, dim=-1):
            yield block.double()
        return
    flat = [row.reshape(-1) for row in rows]
    if len(flat[0]) <= width:
        yield torch.stack(flat).double()
        return
    for pieces in zip(*(torch.split(row, width) for row in flat), strict=True):
        yield torch.stack(pieces).double()


def _sum(weights: Tensor, rows: Tensor) -> Tensor:
    if weights.ndim == 1:
        return weights.to(rows) @ rows
    return (weights.to(rows).unsqueeze(-2) @ rows).squeeze(-2)


def _added(weights: Tensor, rows: Sequence[Tensor]) -> Tensor:
    first, *others = weights.tolist()
    total: Tensor = rows[0] * first
    for weight, row in zip(others, rows[1:], strict=True):
        total.add_(row, alpha=weight)
    return total


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
