"""Projection onto the probability simplex."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.solvers.base import Solution


def project_simplex(point: Tensor) -> Solution:
    r"""The nearest point of the probability simplex.

    .. math:: \operatorname{argmin}_{x \ge 0,\ \sum_k x_k = 1} \|x - p\|^2

    Args:
        point: p, ``Tensor[..., K]``, finite.

    Returns:
        x of shape ``[..., K]``; the residual is :math:`|\sum_k x_k - 1|`.

    References:
        Held, Wolfe and Crowder, *Validation of subgradient optimization*, Mathematical Programming
        1974.
    """
    # A shift does not change the projection, and keeps the sum below free of cancellation.
    p = point.double()
    p = p - p.amax(-1, keepdim=True)
    ordered = p.sort(-1, descending=True)[0]
    rank = torch.arange(1, p.shape[-1] + 1, dtype=p.dtype, device=p.device)
    level = (ordered.cumsum(-1) - 1) / rank
    kept = (ordered > level).sum(-1, keepdim=True)
    x = (p - level.gather(-1, (kept - 1).clamp_min(0))).clamp_min(0.0)
    return Solution(x.to(point.dtype), (x.sum(-1) - 1).abs().to(point.dtype))
