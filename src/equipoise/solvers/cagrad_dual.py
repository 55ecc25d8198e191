"""CAGrad's dual: the best worst-case improvement within a ball around the mean gradient."""

from __future__ import annotations

from math import inf, sqrt
from typing import Any

import torch
from torch import Tensor

from equipoise.solvers.active_set import SIGN, dot, factor, solve, violation
from equipoise.solvers.base import Solution
from equipoise.solvers.min_norm import shortest
from equipoise.solvers.nonnegative_qp import RIDGE, ROUNDS, scaled_qp, violations
from equipoise.solvers.one_problem import Symmetric, spread
from equipoise.solvers.scaling import FEW, Rows, cosine_rows, cosines, vector

ORIGIN = 5e-15
"""The hull holds the origin where its shortest point is, squared, this small against its terms."""

EXACT = 1e-9
"""Residual up to which an answer is taken without a more careful way."""

RIDGES = (0.0, 4e-14, 1e-12, 3e-11)
"""Relative additions to the diagonal, the next where one does not do. Weights may be so large that the
length of their sum is rounding; then it counts as longer than it is, so that the ball is not left."""

EPS = 4.5e-16
"""Relative rounding of an entry of the Gramian, twice over."""


def cagrad_dual(gramian: Tensor, c: float | Tensor) -> Solution:
    r"""What CAGrad adds to the mean of the task gradients.

    The primal problem, with :math:`g_0` the mean, is
    :math:`\max_d \min_k \langle g_k, d\rangle` subject to :math:`\|d - g_0\| \le c \|g_0\|`. Its
    solution is :math:`d = g_0 + J^\top x`, where x >= 0 and, for some level t,

    .. math:: G x + b - t 1 \ge 0, \quad x^\top (G x + b - t 1) = 0, \quad x^\top G x = c^2 \|g_0\|^2,
              \quad b = J g_0 ;

    the dual's simplex weights are :math:`x / \sum_k x_k`. On a given set of rows in use, x is linear in
    t and t the root of a quadratic equation, so the set is found by block pivoting and the answer is
    exact up to rounding. Where that fails (dependent rows), t is bracketed through min-norm points.

    Where x = 0 is the only answer (``c = 0``, or the gradients' mean is 0) that is returned. Where the
    origin lies in the hull of the gradients and no d in the ball improves the worst task, while some d
    keeps it from getting worse, the nearest such d to :math:`g_0` is taken.

    Args:
        gramian: ``Tensor[..., K, K]``, positive semidefinite.
        c: radius of the ball, relative to the mean gradient; not negative. One number, or one a problem,
            ``Tensor[...]``.

    Returns:
        x of shape ``[..., K]`` and residual ``[...]``.

    References:
        Liu et al., *Conflict-Averse Gradient Descent for Multi-task Learning*, NeurIPS 2021,
        arXiv:2110.14048.
    """
    if gramian.ndim == 2:
        one, ratio = Symmetric(gramian), _number(c)
        found = _one(one, ratio) if len(gramian) <= FEW else _pivoted(one, ratio)
        if found is not None:
            return Solution(vector(found[0]).to(gramian), gramian.new_tensor(found[1]))
    exact = gramian.double()
    shape = exact.shape[:-1]
    ratios = torch.as_tensor(c, dtype=exact.dtype, device=exact.device).expand(shape[:-1])
    x, residual = _many(exact.reshape(-1, *exact.shape[-2:]), ratios.reshape(-1))
    return Solution(x.view(shape).to(gramian.dtype), residual.view(shape[:-1]).to(gramian.dtype))


def _one(matrix: Symmetric, c: float) -> tuple[list[float], float]:
    found = _pivoted(matrix, c)
    if found is not None:
        return found
    best: tuple[float, list[float]] = (inf, [])
    for ridge in RIDGES:
        rows = [
            [*row[:i], row[i] * (1 + ridge), *row[i + 1 :]] for i, row in enumerate(matrix.rows)
        ]
        x, residual = _bracket(rows, c)
        best = min(best, (residual, x)) if best[1] else (residual, x)
        if residual <= EXACT:
            break
    return best[1], best[0]


def _pivoted(matrix: Symmetric, c: float) -> tuple[list[float], float] | None:
    """The answer by block pivoting; None where that does not settle it."""
    gramian, norms = matrix.rows, matrix.norms()
    count = len(gramian)
    mean = [sum(row) / count for row in gramian]
    square = c * c * max(sum(mean) / count, 0.0)
    if square == 0:
        return [0.0] * count, 0.0
    shortest_of = min(norms)
    steepest = max([abs(m) / n for m, n in zip(mean, norms, strict=True)]) if shortest_of else 0.0
    used = _unrelated(mean, norms, square) if shortest_of else []
    for _ in range(2 * count + 4 if shortest_of else 0):
        solved = matrix.solve(used, [mean[i] for i in used], [1.0] * len(used)) if used else None
        if solved is None:
            break
        p, v = solved
        a, half, rest = sum(v), sum(p), dot(p, [mean[i] for i in used])
        # Where no level gives the radius, the nearest one still tells which rows should change sides.
        level = (half + sqrt(max(half * half - a * (rest - square), 0.0))) / a
        part = [level * vi - pi for pi, vi in zip(p, v, strict=True)]
        linear = [m - level for m in mean]
        slopes = matrix.times(used, part, linear)
        most = max([abs(value) * norms[i] for i, value in zip(used, part, strict=True)])
        noise = SIGN * (steepest + abs(level) / shortest_of + most)
        wrong = [i for i, value in zip(used, part, strict=True) if value < 0]
        low = [i for i, y in enumerate(slopes) if y < -noise * norms[i]]
        wrong += set(low).difference(used)
        if not wrong:
            x = spread(used, part, count)
            size = [abs(m) + abs(level) for m in mean]
            length = dot(part, [slopes[i] - linear[i] for i in used])
            residual = max(
                violation(gramian, linear, x, size, slopes, norms), abs(length / square - 1)
            )
            if residual > EXACT:
                break
            return x, residual
        used = sorted(set(used).symmetric_difference(wrong))
    return None


def _unrelated(mean: list[float], norms: list[float], square: float) -> list[int]:
    """The rows that would be in use if the gradients were orthogonal: those below one level."""
    ordered = sorted([(m, i) for i, m in enumerate(mean)])
    a = half = rest = 0.0
    level = inf
    used: list[int] = []
    for m, i in ordered:
        if m >= level:
            break
        used.append(i)
        share = 1 / norms[i] ** 2
        a, half, rest = a + share, half + m * share, rest + m * m * share
        level = (half + sqrt(max(half * half - a * (rest - square), 0.0))) / a
    return sorted(used)


def _on(
    rows: Rows, slopes: list[float], relative: list[float], used: list[int]
) -> tuple[list[float], float] | None:
    """The answer and the level on given rows in use, in units of the ball's radius."""
    lower = factor(rows, used) if used else None
    if lower is None:
        return None
    b = [slopes[i] for i in used]
    r = [relative[i] for i in used]
    p, v = solve(lower, b), solve(lower, r)
    a, half = dot(r, v), dot(p, r)
    # Where no level gives the radius, the nearest one still tells which rows should change sides.
    level = (half + sqrt(max(half * half - a * (dot(p, b) - 1), 0.0))) / a
    z = [0.0] * len(rows)
    for i, pi, vi in zip(used, p, v, strict=True):
        z[i] = level * vi - pi
    return z, level


def _violation(
    rows: Rows, slopes: list[float], relative: list[float], level: float, z: list[float]
) -> float:
    linear = [b - level * r for b, r in zip(slopes, relative, strict=True)]
    length = sum([value * dot(row, z) for value, row in zip(z, rows, strict=True)])
    size = [abs(b) + abs(level) * r for b, r in zip(slopes, relative, strict=True)]
    return max(violation(rows, linear, z, size), abs(length - 1))


def _bracket(gramian: Rows, c: float) -> tuple[list[float], float]:
    r"""Finds the shift s for which the min-norm point of the hull of :math:`g_k + s g_0` is d s."""
    count = len(gramian)
    rows, inverse = cosine_rows(gramian)
    mean = [sum(row) / count for row in gramian]
    square = max(sum(mean) / count, 0.0)
    radius = c * sqrt(square)
    longest = max(inverse)
    weights, _ = shortest(gramian)
    square_of_shortest = dot(weights, [dot(row, weights) for row in gramian])
    terms = dot(weights, [dot(list(map(abs, row)), weights) for row in gramian])
    if square_of_shortest <= ORIGIN * terms:
        size = [sum(map(abs, row)) / count for row in gramian]
        x, residual = scaled_qp(rows, inverse, mean, size)
        if dot(x, [dot(row, x) for row in gramian]) <= radius * radius * (1 + 1e-12):
            return x, residual
    relative = [a / longest for a in inverse]
    slopes = [m * a / radius for m, a in zip(mean, inverse, strict=True)]
    low, high = 0.0, 2 * sqrt(max(row[i] for i, row in enumerate(gramian))) / radius
    best: tuple[float, list[float]] = (inf, [0.0] * count)
    for _ in range(200):
        shift = sqrt(low * high) if low > 0 else high / 16
        moved = [
            [g + shift * (m + n) + shift * shift * square for g, n in zip(row, mean, strict=True)]
            for row, m in zip(gramian, mean, strict=True)
        ]
        weights, _ = shortest(moved)
        found = _on(rows, slopes, relative, [i for i, w in enumerate(weights) if w > 0])
        if found is not None and min(found[0]) >= 0:
            z, level = found
            residual = _violation(rows, slopes, relative, level, z)
            if residual < 1e-10:
                return [v * a * radius for v, a in zip(z, inverse, strict=True)], residual
        length = sqrt(max(dot(weights, [dot(row, weights) for row in gramian]), 0.0))
        gap = abs(length / (shift * radius) - 1)
        best = min(best, (gap, [w / shift for w in weights]))
        if length > shift * radius:
            low = shift
        else:
            high = shift
        if high < low * (1 + 1e-15):
            break
    # The mean of nearly opposite gradients is all rounding: no answer fits its length better than that.
    rounding = EPS * sum(sum(map(abs, row)) for row in gramian) / (count * count * square)
    return best[1], 0.0 if best[0] <= rounding else best[0]


def _many(gramian: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    matrix, inverse = cosines(gramian)
    mean = gramian.mean(-1)
    radius = c.unsqueeze(-1) * mean.mean(-1, keepdim=True).clamp_min(0.0).sqrt()
    still = radius == 0
    longest = inverse.amax(-1, keepdim=True)
    relative = inverse / longest
    slopes = (mean * inverse / radius).masked_fill(still, 0.0)
    unit = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
    regular = matrix + RIDGE * unit
    used = mean == mean.amin(-1, keepdim=True)
    z, level = torch.zeros_like(mean), torch.zeros_like(radius)
    for _ in range(ROUNDS):
        system = torch.where(used.unsqueeze(-1) & used.unsqueeze(-2), regular, unit)
        sides = torch.stack((slopes, relative), -1) * used.unsqueeze(-1)
        p, v = torch.linalg.solve_ex(system, sides)[0].unbind(-1)
        a, half = (relative * v).sum(-1, keepdim=True), (relative * p).sum(-1, keepdim=True)
        rest = (slopes * p).sum(-1, keepdim=True) - 1
        level = (half + (half * half - a * rest).clamp_min(0.0).sqrt()) / a
        z = level * v - p
        y = (matrix @ z.unsqueeze(-1)).squeeze(-1) + slopes - level * relative
        size = SIGN * (
            slopes.abs().amax(-1, keepdim=True) + level.abs() + z.abs().amax(-1, keepdim=True)
        )
        wrong = torch.where(used, z < 0, y < -size) & ~still
        if not wrong.any().tolist():
            break
        used = used ^ wrong
        # Without a row in use there is no level: start again from the worst task.
        used = torch.where(used.any(-1, keepdim=True), used, mean == mean.amin(-1, keepdim=True))
    gains = (matrix @ z.unsqueeze(-1)).squeeze(-1)
    residual = torch.maximum(
        violations(
            matrix, z, gains + slopes - level * relative, slopes.abs() + level.abs() * relative
        ),
        ((z * gains).sum(-1) - 1).abs(),
    )
    z = z.clamp_min(0.0)
    residual = residual.masked_fill(still.squeeze(-1), 0.0)
    x = (z * inverse * radius).masked_fill(still, 0.0)
    # Signs that still change, dependent rows and zero gradients are left to the careful way.
    for i, off in enumerate(residual.tolist()):
        if not off <= 1e-11:
            answer, reached = _one(Symmetric(gramian[i]), _number(c[i]))
            if not reached >= off:
                x[i] = x.new_tensor(answer)
                residual[i] = reached
    return x, residual


def _number(c: float | Tensor) -> float:
    """A radius as a number; not by item(), which goes through torch's dispatcher."""
    given: Any = c.tolist() if isinstance(c, Tensor) else c
    return float(given)
