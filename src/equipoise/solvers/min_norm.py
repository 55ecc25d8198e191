"""The point of least norm in the convex hull of the task gradients."""

from __future__ import annotations

from math import inf, isfinite

import torch
from torch import Tensor

from equipoise.solvers.active_set import active_set, violation
from equipoise.solvers.base import Solution
from equipoise.solvers.nonnegative_qp import pivot
from equipoise.solvers.one_problem import Symmetric, one_qp
from equipoise.solvers.scaling import FEW, Rows, cosine_rows, cosines, vector


def min_norm(gramian: Tensor) -> Solution:
    r"""Convex weights of the shortest combination of the task gradients.

    .. math:: \operatorname{argmin}_{w \ge 0,\ \sum_k w_k = 1} w^\top G w

    Exact up to rounding, by the equivalent non-negative quadratic programme on the gradients lifted by
    one coordinate: with :math:`M = G + \delta^2 1 1^\top`, minimise
    :math:`\frac12 x^\top M x - 1^\top x` over :math:`x \ge 0`, and :math:`w = x / \sum_k x_k`. The
    lift :math:`\delta`, the smallest norm, keeps it bounded where the hull holds the origin.

    Degenerate Gramians: zero gradients share the weight evenly and get all of it; among equal or
    dependent gradients the minimiser is not unique (the point is), and one with independent gradients in
    use is returned.

    Args:
        gramian: ``Tensor[..., K, K]``, positive semidefinite.

    Returns:
        w of shape ``[..., K]`` and residual ``[...]``.

    References:
        Wolfe, *Finding the nearest point in a polytope*, Mathematical Programming 1976.
    """
    if gramian.ndim == 2:
        found = shortest(gramian.tolist()) if len(gramian) <= FEW else _one(Symmetric(gramian))
        if found is not None:
            return Solution(vector(found[0]).to(gramian), gramian.new_tensor(found[1]))
    exact = gramian.double()
    tasks = exact.shape[-1]
    matrix, inverse = cosines(exact)
    zero = inverse == 0
    relative = inverse / inverse.amax(-1, keepdim=True)
    relative = torch.where(zero.any(-1, keepdim=True), zero.to(relative), relative)
    flat = relative.reshape(-1, tasks)
    lifted = matrix + relative.unsqueeze(-1) * relative.unsqueeze(-2)
    x, residual = pivot(lifted.reshape(-1, tasks, tasks), -flat, flat)
    x = x.view_as(relative) * relative
    x = torch.where(zero.any(-1, keepdim=True), zero.to(x), x)
    x = x / x.sum(-1, keepdim=True)
    return Solution(x.to(gramian.dtype), residual.view(relative.shape[:-1]).to(gramian.dtype))


def shortest(gramian: Rows) -> tuple[list[float], float]:
    """:func:`min_norm` of one problem in plain floats; the weights and their residual."""
    if len(gramian) == 2:
        weights = _two(gramian)
        return weights, 0.0 if isfinite(sum(weights)) else inf
    rows, inverse = cosine_rows(gramian)
    zeros = inverse.count(0.0)
    if zeros:
        return [0.0 if a else 1 / zeros for a in inverse], 0.0
    longest = max(inverse)
    relative = [a / longest for a in inverse]
    for row, r in zip(rows, relative, strict=True):
        row[:] = [value + r * s for value, s in zip(row, relative, strict=True)]
    linear = [-r for r in relative]
    x = active_set(rows, linear)
    residual = violation(rows, linear, x, relative)
    weights = [value * r for value, r in zip(x, relative, strict=True)]
    total = sum(weights)
    return [w / total for w in weights], residual


def _one(matrix: Symmetric) -> tuple[list[float], float] | None:
    norms = matrix.norms()
    least = min(norms)
    if least == 0:
        zeros = norms.count(0.0)
        return [0.0 if n else 1 / zeros for n in norms], 0.0
    lifted = Symmetric(matrix.tensor + least * least)
    found = one_qp(lifted, [-1.0] * len(norms), [1.0] * len(norms), norms)
    if found is None:
        return None
    total = sum(found[0])
    return [value / total for value in found[0]], found[1]


def _two(gramian: Rows) -> list[float]:
    (first, inner), (_, second) = gramian
    if inner >= first or inner >= second:
        if first == second:
            return [0.5, 0.5]
        return [1.0, 0.0] if first < second else [0.0, 1.0]
    total = first - inner + second - inner
    return [(second - inner) / total, (first - inner) / total]
