"""The combination of unit gradients that has the same inner product with each of them."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.solvers.base import Solution
from equipoise.solvers.scaling import cosines

RANK = 10 * torch.finfo(torch.float64).eps


def equal_cosines(gramian: Tensor) -> Solution:
    r"""Coefficients of the unit gradients with which all inner products with them are one.

    .. math:: b = C^+ 1, \qquad C_{ij} = \frac{\langle g_i, g_j \rangle}{\|g_i\| \|g_j\|}

    The rank is decided on the cosines, so that the norms of the gradients have no part in it. Where the
    unit gradients are dependent, this is the pseudo-inverse: the least-squares answer of least norm. It
    is 0 where no combination has positive inner products (two opposite gradients), and for a zero
    gradient.

    Args:
        gramian: ``Tensor[..., K, K]``, positive semidefinite.

    Returns:
        b of shape ``[..., K]`` and residual ``[...]``, of ``C b`` against the part of 1 in the range.
    """
    matrix = cosines(gramian.double())[0]
    values, vectors = torch.linalg.eigh(matrix)
    tasks = matrix.shape[-1]
    kept = values > RANK * tasks * values[..., -1:]
    ones = vectors.sum(-2)
    # A sum of K entries of size K ** -0.5 that is rounding of 0 would give a direction out of noise.
    ones = ones.masked_fill(~kept | (ones.abs() < 1e-13 * tasks**0.5), 0.0)
    b = (vectors @ (ones / values.masked_fill(~kept, 1.0)).unsqueeze(-1)).squeeze(-1)
    target = (vectors @ ones.unsqueeze(-1)).squeeze(-1)
    off = ((matrix @ b.unsqueeze(-1)).squeeze(-1) - target).abs()
    size = (matrix.abs() @ b.abs().unsqueeze(-1)).squeeze(-1) + target.abs()
    residual = (off / size.masked_fill(size == 0, 1.0)).amax(-1)
    return Solution(b.to(gramian.dtype), residual.to(gramian.dtype))
