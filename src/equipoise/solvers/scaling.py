"""Unit-diagonal scaling, so that the unit of a task decides neither a rank nor a tolerance."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

FEW = 10
"""Up to this many tasks, or rows in use, one problem is quicker in plain floats than in calls of torch."""

Rows = list[list[float]]


def cosines(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines of the task gradients, and the inverse of their norms.

    Args:
        gramian: ``Tensor[..., K, K]`` in float64.

    Returns:
        ``Tensor[..., K, K]`` with a unit diagonal, and ``Tensor[..., K]``. A zero gradient has inverse
        norm 0, hence a row and a column of zeros.
    """
    norms = gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt()
    inverse = norms.reciprocal().masked_fill(norms == 0, 0.0)
    return gramian * inverse.unsqueeze(-1) * inverse.unsqueeze(-2), inverse


def cosine_rows(gramian: Rows) -> tuple[Rows, list[float]]:
    """:func:`cosines` in plain floats."""
    norms = [sqrt(row[i]) if row[i] > 0 else 0.0 for i, row in enumerate(gramian)]
    inverse = [1 / n if n > 0 else 0.0 for n in norms]
    return [
        [g * a * b for g, b in zip(row, inverse, strict=True)]
        for row, a in zip(gramian, inverse, strict=True)
    ], inverse


def vector(values: Sequence[float]) -> Tensor:
    """``Tensor[K]`` in float64 of plain floats, in a third of the time of ``torch.tensor``."""
    return torch.frombuffer(array("d", values), dtype=torch.float64)
