"""One bargaining system, as in a training step: vectors as plain floats, and few calls of torch."""

from __future__ import annotations

from math import inf
from operator import mul

import torch
from torch import Tensor

from equipoise.solvers.active_set import dot
from equipoise.solvers.scaling import Rows, vector

UNBOUNDED = 1e3
"""Weights this many times what each task would have alone, held by the ridge only, have no limit."""

SWEPT = 20
"""Tasks up to which a sweep is quicker than the step it saves."""

QUICK = 15
EXACT = 1e-12


def full_steps(
    gramian: Tensor, power: float, shares: Tensor | None
) -> tuple[list[float], float] | None:
    """:func:`bargaining <equipoise.solvers.bargaining.bargaining>` where nothing is out of the ordinary.

    Args:
        gramian: ``Tensor[K, K]``.
        power: p.
        shares: c, ``Tensor[K]``, or None for ones.

    Returns:
        The weights and a bound on the residual; None where full Newton steps do not settle it.
    """
    matrix = gramian.to("cpu", torch.float64)
    squares = matrix.diagonal().tolist()
    if not all(s > 0 for s in squares):
        return None
    pulls = [1.0] * len(squares) if shares is None else [c**power for c in shares.tolist()]
    try:
        # Each task alone, all scaled to gain in sum what they want, then one answer to the others.
        alone = [(k / s) ** (1 / (1 + power)) for k, s in zip(pulls, squares, strict=True)]
        gains = _gains(matrix, alone)
        sizes = [s * a for s, a in zip(squares, alone, strict=True)]
        common = dot(alone, gains) / dot(alone, sizes)
        if not common > 0:
            return None
        answers = [
            min(max(common * s / g, 0.5), 2.0) if g > 0 else 2.0
            for s, g in zip(sizes, gains, strict=True)
        ]
        point = [a * (r / common) ** (1 / (1 + power)) for a, r in zip(alone, answers, strict=True)]
        if power <= 1 and len(point) <= SWEPT:
            sweep(matrix.tolist(), squares, pulls, power, point)
        return _iterate(matrix, squares, pulls, power, alone, point)
    except (OverflowError, ZeroDivisionError):
        return None


def _gains(matrix: Tensor, point: list[float]) -> list[float]:
    gains: list[float] = torch.mv(matrix, vector(point)).tolist()
    return gains


def _iterate(
    matrix: Tensor,
    squares: list[float],
    pulls: list[float],
    power: float,
    alone: list[float],
    point: list[float],
) -> tuple[list[float], float] | None:
    hessian = matrix.clone()
    curvature = hessian.diagonal()
    lower = matrix
    furthest = 0.9 if power <= 1 else 1 - 10 ** (-1 / power)
    largest = inf
    for _ in range(QUICK):
        wants = [k * a**-power for k, a in zip(pulls, point, strict=True)]
        gradient = [g - t for g, t in zip(_gains(matrix, point), wants, strict=True)]
        # So near the end, the factor of the last step serves again.
        again = largest < 1e-4
        if not again:
            bends = [s + power * t / a for s, t, a in zip(squares, wants, point, strict=True)]
            curvature.copy_(vector(bends))
            lower = torch.linalg.cholesky_ex(hessian)[0]
        right = vector(gradient).unsqueeze(-1)
        step = torch.cholesky_solve(right, lower).flatten().tolist()
        changes = [d / a for d, a in zip(step, point, strict=True)]
        most = max(changes)
        if most > furthest:
            step = [a * min(d, furthest) for a, d in zip(point, changes, strict=True)]
        point = [a - d for a, d in zip(point, step, strict=True)]
        before, largest = largest, max(most, -min(changes))
        if largest * (before if again else largest) < 1e-14:
            break
    worst = 0.0
    for g, s, k, a, b in zip(_gains(matrix, point), squares, pulls, point, alone, strict=True):
        want = k * a**-power
        # Only one of the terms of the gain: what is returned is a bound.
        off = abs(g - want) / (s * a + want)
        if not (off <= EXACT and a <= UNBOUNDED * b):
            return None
        worst = max(worst, off)
    return point, worst


def sweep(
    rows: Rows, squares: list[float], pulls: list[float], power: float, point: list[float]
) -> None:
    """One task after the other takes a Newton step of its own: a round costs a fraction of a full one."""
    for i, row in enumerate(rows):
        b = point[i]
        want = pulls[i] * b**-power
        change = (sum(map(mul, row, point)) - want) / (squares[i] * b + power * want)
        point[i] = b * (1 - min(max(change, -2.0), 0.6))
