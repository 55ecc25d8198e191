"""The bargaining systems of Nash-MTL, FairGrad and PIVRG: each task gains a power of its weight."""

from __future__ import annotations

from math import ceil, exp, inf, isfinite, log

import torch
from torch import Tensor

from equipoise.solvers.active_set import dot, factor, solve
from equipoise.solvers.base import Solution
from equipoise.solvers.one_bargain import EXACT, QUICK, UNBOUNDED, full_steps
from equipoise.solvers.scaling import Rows, cosines, vector

RIDGE = 2e-14
"""Added to the unit diagonal: a hundred times the rounding of a cosine, so that what has no solution
still has a minimum, far out."""

CAREFUL = 300


def bargaining(gramian: Tensor, power: float = 1.0, shares: Tensor | None = None) -> Solution:
    r"""Positive weights whose combination improves each task by a power of its inverse weight.

    .. math:: (G w)_k = (c_k / w_k)^p, \quad w > 0

    p = 1 is Nash-MTL, p = 1 / alpha FairGrad, p = 1/2 with shares c PIVRG. It is the stationarity
    condition of a strictly convex function, so there is at most one solution; damped Newton steps,
    relative to the current point, find it to rounding. With rows of unit length and the weights in
    their units, neither the size of the Gramian nor the ratio of its rows matters.

    Degenerate Gramians: a zero gradient takes no part and gets the mean weight of the others (1 where
    all are zero). Where the gradients are Pareto-stationary (some convex combination is 0) there is
    no solution, the weights grow without bound and the update goes to 0: returned is their limit
    direction, scaled down until no task has more weight than it would have alone (where p is so large
    that they hardly grow, they stay as they are).

    Args:
        gramian: ``Tensor[..., K, K]``, positive semidefinite.
        power: p > 0.
        shares: c, ``Tensor[..., K]``, positive; None is one for every task.

    Returns:
        w of shape ``[..., K]`` and residual ``[...]``.

    References:
        Navon et al., *Multi-Task Learning as a Bargaining Game*, ICML 2022, arXiv:2202.01017; Ban and
        Ji, *Fair Resource Allocation in Multi-Task Learning*, ICML 2024, arXiv:2402.15638.
    """
    if gramian.ndim == 2:
        quick = full_steps(gramian, power, shares)
        if quick is not None:
            return Solution(vector(quick[0]).to(gramian), gramian.new_tensor(quick[1]))
    exact = gramian.double()
    part = exact.new_ones(exact.shape[:-1]) if shares is None else shares.double()
    x, residual = _many(exact, power, part.expand(exact.shape[:-1]))
    return Solution(x.to(gramian.dtype), residual.to(gramian.dtype))


def _point(
    rows: Rows, relative: list[float], shares: list[float], power: float
) -> tuple[list[float], float]:
    """The weights in units of the inverse norms, ``C b = k b**-p``, and the residual.

    Args:
        rows: cosines C; the diagonal is overwritten.
        relative: inverse norms, the smallest one 1.
        shares: c.
        power: p.
    """
    for i, row in enumerate(rows):
        row[i] = 1 + RIDGE
    point, residual = _along(rows, relative, shares, [power])
    if not residual <= EXACT:
        # Small powers and very different norms put the solution far from any easy start: come from
        # p = 1, where it is near, by steps that change no pull by much.
        start = max(power, 1.0)
        steps = ceil((start - power) * max(1.0, log(max(relative))) / 0.7) + 1
        stages = [start + (power - start) * i / steps for i in range(steps + 1)]
        led, reached = _along(rows, relative, shares, stages)
        if not reached >= residual:
            point, residual = led, reached
    pulls = _pulls(relative, shares, power)
    grown = [b * exp(-k / (1 + power)) for b, k in zip(point, pulls, strict=True)]
    if max(grown) > UNBOUNDED and any(
        RIDGE * b > 0.5 * t for b, t in zip(point, _wants(pulls, power, point), strict=True)
    ):
        point = [b / max(grown) for b in point]
        # Of a limit, what counts is that the combination goes to 0.
        left = max([abs(dot(row, point)) for row in rows]) / sum(point)
        residual = min(residual, left) if isfinite(left) else residual
    return point, residual


def _pulls(relative: list[float], shares: list[float], power: float) -> list[float]:
    """Logarithms of k: k itself leaves the range of floats where p is far from 1."""
    return [(1 - power) * log(r) + power * log(c) for r, c in zip(relative, shares, strict=True)]


def _wants(pulls: list[float], power: float, point: list[float]) -> list[float]:
    """What each task wants to gain, ``k b**-p``."""
    return [exp(min(k - power * log(b), 700.0)) for k, b in zip(pulls, point, strict=True)]


def _along(
    rows: Rows, relative: list[float], shares: list[float], powers: list[float]
) -> tuple[list[float], float]:
    """Newton's method for one power after the other, each from where the last one ended."""
    point: list[float] = []
    residual = inf
    for power in powers:
        pulls = _pulls(relative, shares, power)
        point, residual = _newton(rows, pulls, power, point or _start(rows, pulls, power))
        if residual == inf:
            break
    return point, residual


def _start(rows: Rows, pulls: list[float], power: float) -> list[float]:
    """A first guess: each task alone, then one answer to the others."""
    point = [exp(k / (1 + power)) for k in pulls]
    gains = [dot(row, point) for row in rows]
    wants = _wants(pulls, power, point)
    return [
        b * min(max(t / max(m, 1e-3 * b), 1e-3), 1e3) ** (1 / (1 + power))
        for b, t, m in zip(point, wants, gains, strict=True)
    ]


def _newton(
    rows: Rows, pulls: list[float], power: float, point: list[float]
) -> tuple[list[float], float]:
    r"""Minimises :math:`\frac12 b^\top C b - \sum_k F_k(b_k)`, where :math:`F_k' = k b^{-p}`."""
    everyone = range(len(rows))
    # What a task wants grows tenfold at most in a step.
    furthest = 0.9 if power <= 1 else 1 - 10 ** (-1 / power)
    before: list[float] = []
    step: list[float] = []
    lower: Rows | None = None
    reach = decrease = 0.0
    change = inf
    for count in range(CAREFUL):
        wants = _wants(pulls, power, point)
        gradient = [dot(row, point) - t for row, t in zip(rows, wants, strict=True)]
        # Past the minimum along the step, by more than a little: come back half the way.
        if reach and dot(gradient, step) > 0.5 * decrease and reach > 0.05:
            reach /= 2
            point = [a + reach * d for a, d in zip(before, step, strict=True)]
            continue
        # So near the end, the factor of the last step serves again.
        again = change < 1e-4
        if not again:
            for row, i, t, b in zip(rows, everyone, wants, point, strict=True):
                row[i] = 1 + RIDGE + power * t / b
            lower = factor(rows, everyone, 0.0)
            for row, i in zip(rows, everyone, strict=True):
                row[i] = 1 + RIDGE
        if lower is None:
            break
        step = [-d for d in solve(lower, gradient)]
        before = point
        changes = [d / b for d, b in zip(step, point, strict=True)]
        reach = min(1.0, furthest / max(1e-9, -min(changes)))
        point = [b + reach * d for b, d in zip(point, step, strict=True)]
        if min(point) < 1e-280:
            return point, inf
        last, change = change, max(map(abs, changes))
        # The next error would be about this product. Far out, rounding moves the point on.
        if change * (last if again else change) < 1e-14 or (
            count > 2 * QUICK and _violation(rows, pulls, power, point) < 1e-14
        ):
            break
        decrease = -dot(step, gradient)
        if change < 1e-3:
            reach = 0.0
    return point, _violation(rows, pulls, power, point)


def _violation(rows: Rows, pulls: list[float], power: float, point: list[float]) -> float:
    worst = 0.0
    for row, want in zip(rows, _wants(pulls, power, point), strict=True):
        terms = [c * a for c, a in zip(row, point, strict=True)]
        off = abs(sum(terms) - want)
        if not isfinite(off):
            return inf
        worst = max(worst, off / (sum(map(abs, terms)) + want))
    return worst


def _many(gramian: Tensor, power: float, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Full Newton steps on all problems at once; those it leaves open are done with care."""
    matrix, inverse = cosines(gramian)
    zero = inverse == 0
    shortest = inverse.masked_fill(zero, torch.inf).amin(-1, keepdim=True)
    shortest = shortest.masked_fill(shortest.isinf(), 1.0)
    relative = (inverse / shortest).masked_fill(zero, 1.0)
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    diagonal.fill_(1 + RIDGE)
    pulls = (1 - power) * relative.log() + power * shares.log()
    point = alone = (pulls / (1 + power)).exp()
    gains = torch.maximum((matrix @ point.unsqueeze(-1)).squeeze(-1), 1e-3 * point)
    point = point * (point / gains).clamp(1e-3, 1e3) ** (1 / (1 + power))
    least = 0.1 if power <= 1 else 10 ** (-1 / power)
    hessian = matrix.clone()
    curvature = hessian.diagonal(dim1=-2, dim2=-1)
    for _ in range(QUICK):
        wants = (pulls - power * point.log()).exp()
        gradient = (matrix @ point.unsqueeze(-1)).squeeze(-1) - wants
        torch.add(diagonal, wants / point, alpha=power, out=curvature)
        lower = torch.linalg.cholesky_ex(hessian)[0]
        change = torch.cholesky_solve(gradient.unsqueeze(-1), lower).squeeze(-1) / point
        point = point * (1 - change).clamp_min(least)
        if not (change.abs() > 1e-7).any().tolist():
            break
    terms = matrix * point.unsqueeze(-2)
    wants = (pulls - power * point.log()).exp()
    residual = ((terms.sum(-1) - wants).abs() / (terms.abs().sum(-1) + wants)).amax(-1)
    # Weights that are held by the ridge only may not be at their limit yet.
    settled = (residual <= EXACT) & (point <= UNBOUNDED * alone).all(-1)
    for where in (~settled).nonzero().tolist():
        at = tuple(where)
        found, reached = _point(
            matrix[at].tolist(), relative[at].tolist(), shares[at].tolist(), power
        )
        point[at], residual[at] = point.new_tensor(found), reached
    weights = (point * relative * shortest ** (2 / (1 + power))).masked_fill(zero, 0.0)
    alive = (~zero).sum(-1, keepdim=True)
    mean = torch.where(alive == 0, 1.0, weights.sum(-1, keepdim=True) / alive)
    return torch.where(zero, mean, weights), residual
