"""The dual of descent on several objectives under one constraint on the rate of another."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.solvers.base import Solution
from equipoise.solvers.simplex import project_simplex


def bounded_descent(
    gramian: Tensor, gap: Tensor, square: Tensor, phi: float, iterations: int = 5000
) -> Solution:
    r"""Weights on the simplex that minimise FORUM's dual.

    .. math::
        \min_{\lambda \in \Delta, \nu \ge 0} \tfrac12 \Big\|\sum_j \lambda_j F_j + \nu q\Big\|^2
        - \nu \varphi \|q\|^2

    For a given :math:`\lambda` the best :math:`\nu` is in closed form, which leaves a convex problem with a
    continuous gradient; it is solved by accelerated projected gradient with restarts.

    Args:
        gramian: inner products of the :math:`F_j`, ``Tensor[K, K]``, float64.
        gap: inner products of the :math:`F_j` with :math:`q`, ``Tensor[K]``.
        square: :math:`\|q\|^2`, a scalar; 0 leaves the min-norm point.
        phi: :math:`\varphi`.
        iterations: at most.

    Returns:
        :math:`\lambda`, and as residual the length of the last projected gradient step.
    """
    length = gramian.diagonal(dim1=-2, dim2=-1).max().clamp_min(1e-300)
    step = 1.0 / (2 * len(gramian) * length)

    def gradient(x: Tensor) -> Tensor:
        nu = (phi - gap @ x / square).clamp_min(0) if square > 0 else torch.zeros_like(square)
        return gramian @ x + nu * gap

    x = y = torch.full_like(gap, 1 / len(gap))
    momentum = 1.0
    residual = torch.tensor(torch.inf, dtype=gap.dtype)
    for _ in range(iterations):
        new = project_simplex(y - step * gradient(y)).x
        residual = (project_simplex(new - step * gradient(new)).x - new).norm()
        if residual < 1e-12:
            return Solution(new, residual)
        if (y - new) @ (new - x) > 0:
            momentum = 1.0
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        y = new + (momentum - 1) / following * (new - x)
        x, momentum = new, following
    return Solution(x, residual)
