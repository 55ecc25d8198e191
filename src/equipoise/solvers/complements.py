"""Every task gradient without what it shares with the span of the others."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.solvers.base import Solution
from equipoise.solvers.scaling import cosines

PLAIN = 1e-6
"""Squared distance of each unit gradient to the span of others that leaves no doubt about the rank."""

SPAN = 2e-14
"""A unit gradient whose squared distance to that span is below this, times K, lies in it."""

RANK = 10 * torch.finfo(torch.float64).eps


def complements(gramian: Tensor) -> Solution:
    r"""Coefficients of each gradient's projection onto the complement of the span of the others.

    .. math:: g_i' = g_i - \operatorname{proj}_{\operatorname{span}\{g_j : j \ne i\}} g_i
              = \sum_j x_{ij} g_j, \qquad x_{iS} = -G_{SS}^+ G_{Si}, \quad x_{ii} = 1

    For independent gradients these are the rows of :math:`G^{-1}` over its diagonal. Ranks are decided
    on the cosines, so that norms have no part in them. A gradient in the span of the others, and a
    zero gradient, has an exact 0.

    Args:
        gramian: ``Tensor[..., K, K]``, positive semidefinite.

    Returns:
        x of shape ``[..., K, K]``, row i for :math:`g_i'`, and residual ``[..., K]``: how far
        :math:`g_i'` is from orthogonal to the others, relative to the terms that cancel.
    """
    matrix, inverse = cosines(gramian.double())
    flat = matrix.reshape(-1, *matrix.shape[-2:])
    inverted, failed = torch.linalg.inv_ex(flat)
    pivots = inverted.diagonal(dim1=-2, dim2=-1)
    plain = (failed == 0) & ((pivots > 0) & (pivots * PLAIN < 1)).all(-1)
    unit = inverted / pivots.unsqueeze(-1)
    for i in (~plain).nonzero().flatten().tolist():
        unit[i] = _dependent(flat[i])
    gains = unit @ flat
    gains = gains - torch.diag_embed(gains.diagonal(dim1=-2, dim2=-1))
    # An inner product of unit gradients is known up to rounding of 1, also where it is nearly 0.
    terms = unit.abs().sum(-1, keepdim=True)
    residual = (gains.abs() / terms.masked_fill(terms == 0, 1.0)).amax(-1)
    norms = inverse.reciprocal().masked_fill(inverse == 0, 0.0)
    x = unit.view_as(matrix) * norms.unsqueeze(-1) * inverse.unsqueeze(-2)
    return Solution(x.to(gramian.dtype), residual.view(inverse.shape).to(gramian.dtype))


def _dependent(matrix: Tensor) -> Tensor:
    """Coefficients ``Tensor[K, K]`` for cosines that may be dependent."""
    tasks = len(matrix)
    own = torch.eye(tasks, dtype=matrix.dtype, device=matrix.device)
    other = 1 - own
    values, vectors = torch.linalg.eigh(matrix * other.unsqueeze(-1) * other.unsqueeze(-2))
    kept = values > RANK * tasks * values[:, -1:].clamp_min(1.0)
    back = (vectors.mT @ (matrix * other).unsqueeze(-1)) / values.masked_fill(
        ~kept, torch.inf
    ).unsqueeze(-1)
    unit = own - (vectors @ back).squeeze(-1) * other
    distance = ((unit @ matrix) * unit).sum(-1, keepdim=True)
    return torch.where(distance > SPAN * tasks, unit, 0.0)
