"""The combination whose inner products with the gradients are given up to a multiple of a ray."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.solvers.base import Solution
from equipoise.solvers.equal_cosines import RANK
from equipoise.solvers.scaling import cosines

NOISE = 1e-12
"""A sum counts as 0 where it is this small against its terms."""


def towards_ray(gramian: Tensor, gains: Tensor, ray: Tensor) -> Solution:
    r"""Weights whose combination gains what is asked for, plus a multiple of the ray.

    .. math:: \max_{\kappa} \min_k t_k - \tfrac12 \|d\|^2, \qquad t = a + \kappa p, \quad
              d = J^\top w, \quad G w = t

    A concave function of one number: the least of K lines, less a parabola. Its maximum is where a line
    by itself has it, or where two lines cross.

    Where gradients are dependent (judged on their cosines, so that their norms have no part in it), not
    every t is reached. Then :math:`\kappa` makes the part that is out of reach as small as can be, in
    units of the norms of the gradients, and the rest of t is reached; where :math:`\kappa` has no part
    in that, it is free as above. A zero gradient has no gain, and counts in the unit of the longest.

    Args:
        gramian: ``Tensor[..., K, K]``, positive semidefinite, in float64.
        gains: a, ``Tensor[..., K]``.
        ray: p, ``Tensor[..., K]``, not 0.

    Returns:
        w of shape ``[..., K]`` and residual ``[...]``, of ``G w`` against the part of t within reach.
    """
    matrix, inverse = cosines(gramian)
    least = torch.where(inverse > 0, inverse, torch.inf).amin(-1, keepdim=True)
    units = torch.where(inverse > 0, inverse, least.masked_fill(least.isinf(), 1.0))
    # What is not finite is for the caller to tell.
    values, vectors = torch.linalg.eigh(matrix.nan_to_num(0.0, 0.0, 0.0))
    kept = (values > RANK * matrix.shape[-1] * values[..., -1:]) & (values > 0)
    a, b = _within(vectors, units * gains), _within(vectors, units * ray)
    stuck = (a * b).masked_fill(kept, 0.0).sum(-1, keepdim=True)
    square = (b * b).masked_fill(kept, 0.0).sum(-1, keepdim=True)
    forced = square > 0
    share = values.masked_fill(~kept, 1.0).reciprocal().masked_fill(~kept, 0.0)
    slope, curve = (share * a * b).sum(-1, keepdim=True), (share * b * b).sum(-1, keepdim=True)
    best = _highest(gains, ray, slope, curve.masked_fill(curve == 0, 1.0))
    kappa = torch.where(forced, -stuck / square.masked_fill(~forced, 1.0), best)
    target = (a + kappa * b).masked_fill(~kept, 0.0)
    x = (vectors @ (share * target).unsqueeze(-1)).squeeze(-1)
    reached = (matrix @ x.unsqueeze(-1)).squeeze(-1)
    wanted = (vectors @ target.unsqueeze(-1)).squeeze(-1)
    # The parts of t that cancel count with their size before they did.
    size = x.abs().amax(-1) + (units * (gains.abs() + kappa.abs() * ray.abs())).amax(-1)
    off = (reached - wanted).abs().amax(-1) / size.masked_fill(size == 0, 1.0)
    return Solution(units * x, off)


def _within(vectors: Tensor, target: Tensor) -> Tensor:
    """Coordinates in a basis, 0 where they are rounding."""
    found = (vectors.mT @ target.unsqueeze(-1)).squeeze(-1)
    terms = (vectors.mT.abs() @ target.abs().unsqueeze(-1)).squeeze(-1)
    noise = NOISE * terms + 4e-3 * NOISE * target.abs().amax(-1, keepdim=True)
    return found.masked_fill(found.abs() <= noise, 0.0)


def _highest(heights: Tensor, rises: Tensor, slope: Tensor, curve: Tensor) -> Tensor:
    """The number k at which the least of the lines, less ``slope k + curve k^2 / 2``, is highest.

    Each line is the least one on an interval, which may be empty. The highest point is the last one that
    lies in a line's interval and not beyond where that line by itself would be highest.

    Args:
        heights: of the lines at 0, ``Tensor[..., K]``.
        rises: their slopes, ``Tensor[..., K]``.
        slope: ``Tensor[..., 1]``.
        curve: above 0, ``Tensor[..., 1]``.

    Returns:
        ``Tensor[..., 1]``.
    """
    # Counted from the top of the parabola, nothing cancels.
    top = -slope / curve
    heights = heights + top * rises
    flatter = rises.unsqueeze(-1) - rises.unsqueeze(-2)
    higher = heights.unsqueeze(-2) - heights.unsqueeze(-1)
    crossings = higher / flatter.masked_fill(flatter == 0, 1.0)
    first = crossings.masked_fill(flatter >= 0, -torch.inf).amax(-1)
    last = crossings.masked_fill(flatter <= 0, torch.inf).amin(-1)
    lowest = ((flatter != 0) | (higher >= 0)).all(-1)
    alone = rises / curve
    found = torch.minimum(alone, last)
    held = lowest & (found >= first)
    return top + found.masked_fill(~held, -torch.inf).amax(-1, keepdim=True)
