"""One bargaining system, as in a training step: vectors as plain floats, and few calls of torch."""

from __future__ import annotations

from math import inf
from operator import mul, sub, truediv

import torch
from torch import Tensor

from equipoise.solvers.active_set import dot, factor, solve
from equipoise.solvers.scaling import FEW, Rows, vector

UNBOUNDED = 1e3
"""Weights this many times what each task would have alone, held by the ridge only, have no limit."""

SWEEPS = 3
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
        hessian = _Hessian(matrix)
        gains = hessian.gains(alone)
        sizes = [s * a for s, a in zip(squares, alone, strict=True)]
        common = dot(alone, gains) / dot(alone, sizes)
        if not common > 0:
            return None
        answers = [
            min(max(common * s / g, 0.5), 2.0) if g > 0 else 2.0
            for s, g in zip(sizes, gains, strict=True)
        ]
        point = [a * (r / common) ** (1 / (1 + power)) for a, r in zip(alone, answers, strict=True)]
        if power <= 1 and hessian.few:
            for _ in range(SWEEPS):
                sweep(hessian.rows, squares, pulls, power, point)
        return _iterate(hessian, squares, pulls, power, alone, point)
    except (OverflowError, ZeroDivisionError):
        return None


class _Hessian:
    """The Gramian plus a diagonal, in plain floats where it is small."""

    def __init__(self, gramian: Tensor) -> None:
        self.gramian = gramian
        self.few = len(gramian) <= FEW
        self.rows: Rows = gramian.tolist() if self.few else []
        self.lower: Rows = []
        self.whole = self.factored = gramian if self.few else gramian.clone()

    def gains(self, point: list[float]) -> list[float]:
        """The Gramian times a vector."""
        if self.few:
            return [sum(map(mul, row, point)) for row in self.rows]
        gains: list[float] = torch.mv(self.gramian, vector(point)).tolist()
        return gains

    def factor(self, diagonal: list[float]) -> bool:
        """Factors it with a new diagonal; whether that was possible."""
        if not self.few:
            self.whole.diagonal().copy_(vector(diagonal))
            self.factored, broken = torch.linalg.cholesky_ex(self.whole)
            return not broken.tolist()
        before = []
        for i, (row, value) in enumerate(zip(self.rows, diagonal, strict=True)):
            before.append(row[i])
            row[i] = value
        lower = factor(self.rows, range(len(diagonal)), 0.0)
        for i, (row, value) in enumerate(zip(self.rows, before, strict=True)):
            row[i] = value
        self.lower = lower or []
        return lower is not None

    def solve(self, right: list[float]) -> list[float]:
        """Solves with the last factor."""
        if self.few:
            return solve(self.lower, right)
        solved = torch.cholesky_solve(vector(right).unsqueeze(-1), self.factored)
        step: list[float] = solved.flatten().tolist()
        return step


def _iterate(
    hessian: _Hessian,
    squares: list[float],
    pulls: list[float],
    power: float,
    alone: list[float],
    point: list[float],
) -> tuple[list[float], float] | None:
    furthest = 0.9 if power <= 1 else 1 - 10 ** (-1 / power)
    largest = inf
    for _ in range(QUICK):
        wants = [k * a**-power for k, a in zip(pulls, point, strict=True)]
        gradient = list(map(sub, hessian.gains(point), wants))
        # So near the end, the factor of the last step serves again.
        again = largest < 1e-4
        if not again and not hessian.factor(
            [s + power * t / a for s, t, a in zip(squares, wants, point, strict=True)]
        ):
            return None
        step = hessian.solve(gradient)
        changes = list(map(truediv, step, point))
        most = max(changes)
        if most > furthest:
            step = [a * min(d, furthest) for a, d in zip(point, changes, strict=True)]
        point = list(map(sub, point, step))
        before, largest = largest, max(most, -min(changes))
        if largest * (before if again else largest) < 1e-14:
            break
    worst = 0.0
    gains = hessian.gains(point)
    for g, s, k, a, b in zip(gains, squares, pulls, point, alone, strict=True):
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
