"""The direction in a cone around the mean gradient that helps the worst task most."""

from __future__ import annotations

from math import inf, isfinite, sqrt

from torch import Tensor

from equipoise.solvers.active_set import dot, factor, solve
from equipoise.solvers.base import Solution
from equipoise.solvers.min_norm import shortest
from equipoise.solvers.nonnegative_qp import scaled_qp
from equipoise.solvers.scaling import Rows, cosine_rows

ORIGIN = 5e-15
"""A combination of gradients is 0 where it is, squared, this small against its terms."""

ALONG = 1e-14
"""A gradient lies along the mean where the square of the rest of it is this small against its own."""

CANCELLED = 1e-7
"""A length whose square is this small against the terms that cancel in it is known to 1e-9 only."""

EXACT = 1e-12


def cone_direction(gramian: Tensor, c: float) -> Solution:
    r"""Coefficients of the best direction within an angle of the mean gradient, of the mean's length.

    .. math:: \max_d \min_k \langle g_k, d \rangle \quad \text{s.t.} \quad
              \langle g_0, d \rangle \ge c \|g_0\| \|d\|, \quad \|d\| = \|g_0\|, \qquad
              g_0 = \tfrac1K \sum_k g_k

    If the min-norm point of the gradients' hull lies in the cone, d points along it. Else d lies on the
    cone's boundary: with :math:`u = g_0 / \|g_0\|`, :math:`p_k = \langle g_k, u \rangle` and
    :math:`h_k = g_k - p_k u`, it points along :math:`u + v`, where v is the shortest vector with
    :math:`p_k + \langle h_k, v \rangle \ge t` for every k, and t is raised until
    :math:`\|v\| = \sqrt{1 - c^2} / c`. On given rows in use that is a quadratic equation in t.

    Where no direction of the cone helps every task, ``u + v`` is the point of the cone's section at
    height one that harms the worst task least. Where :math:`g_0 = 0` the answer is 0.

    Args:
        gramian: ``Tensor[..., K, K]``, positive semidefinite.
        c: cosine of the cone's half angle, in (0, 1].

    Returns:
        coefficients of the task gradients, of shape ``[..., K]``, and residual ``[...]``.
    """
    exact = gramian.double().reshape(-1, *gramian.shape[-2:])
    found = [_one(rows, c) for rows in exact.tolist()]
    x = exact.new_tensor([answer for answer, _ in found]).view(gramian.shape[:-1])
    residual = exact.new_tensor([violated for _, violated in found]).view(gramian.shape[:-2])
    return Solution(x.to(gramian.dtype), residual.to(gramian.dtype))


def _one(gramian: Rows, c: float) -> tuple[list[float], float]:
    count = len(gramian)
    mean = [sum(row) / count for row in gramian]
    square = sum(mean) / count
    if not isfinite(square):
        return [0.0] * count, inf
    if not square > ORIGIN * sum([sum(map(abs, row)) for row in gramian]) / count**2:
        return [0.0] * count, 0.0
    length = sqrt(square)
    weights, residual = shortest(gramian)
    norm = sqrt(max(dot(weights, [dot(row, weights) for row in gramian]), 0.0))
    terms = dot(weights, [dot(list(map(abs, row)), weights) for row in gramian])
    if norm * norm > ORIGIN * terms and dot(weights, mean) >= c * length * norm * (1 - EXACT):
        return [w * length / norm for w in weights], residual
    p = [m / length for m in mean]
    across = [
        [g - a * b for g, b in zip(row, p, strict=True)] for row, a in zip(gramian, p, strict=True)
    ]
    for i, row in enumerate(across):
        if not row[i] > ALONG * gramian[i][i]:
            for j in range(count):
                row[j] = across[j][i] = 0.0
    x, residual = _raise(across, p, sqrt(1 - c * c) / c)
    stretch = sqrt(1 + max(dot(x, [dot(row, x) for row in across]), 0.0)) / length
    common = (1 - dot(p, x)) / (count * length)
    return [(value + common) / stretch for value in x], residual


def _raise(across: Rows, p: list[float], radius: float) -> tuple[list[float], float]:
    """The x of ``v = sum_k x_k h_k`` at the highest level t that v, no longer than radius, allows."""
    rows, inverse = cosine_rows(across)
    lengths = [sqrt(max(row[i], 0.0)) for i, row in enumerate(across)]
    low = min(p)
    high = min(a + radius * h for a, h in zip(p, lengths, strict=True))
    best, residual = [0.0] * len(p), 0.0
    level = high
    for count in range(200):
        size = [abs(a) + abs(level) for a in p]
        x, violated = scaled_qp(rows, inverse, [a - level for a in p], size)
        square = dot(x, [dot(row, x) for row in across])
        terms = dot(x, [dot(list(map(abs, row)), x) for row in across])
        # Above the highest level that any v reaches, x grows until its terms cancel to nothing.
        allowed = violated <= 1e-9 and (square > CANCELLED * terms or not terms)
        norm = sqrt(square) if allowed else inf
        if abs(norm - radius) <= EXACT * radius:
            return x, violated
        if norm < radius:
            low, best, residual = level, x, violated
        else:
            high = level
        if high - low <= 4e-16 * (abs(high) + abs(low)):
            break
        used = [i for i, value in enumerate(x) if value > 0] if allowed and count % 3 < 2 else []
        level = _root(rows, inverse, p, used, radius)
        if not low < level < high:
            level = (low + high) / 2
    return best, residual


def _root(
    rows: Rows, inverse: list[float], p: list[float], used: list[int], radius: float
) -> float:
    """The level at which v, held by the given rows alone, is as long as radius; inf if none is."""
    lower = factor(rows, used) if used else None
    if lower is None:
        return inf
    ones = [inverse[i] for i in used]
    heights = [p[i] * inverse[i] for i in used]
    up, base = solve(lower, ones), solve(lower, heights)
    a, half = dot(ones, up), dot(ones, base)
    root = half * half - a * (dot(heights, base) - radius * radius)
    return (half + sqrt(root)) / a if root >= 0 else inf
