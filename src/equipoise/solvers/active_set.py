"""One non-negative quadratic programme in plain floats: quick when small, and robust when degenerate."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite, sqrt
from operator import mul

from equipoise.solvers.scaling import Rows

RANK = 2e-14
"""A unit row whose squared distance to the span of others is below this counts as in the span: it is
the rounding of a cosine in float64, times a hundred."""

RIDGE = 2e-14
"""Added to a unit diagonal: a hundred times the rounding of a cosine, so that no rows are dependent."""

AROUND = 30

EXACT = 1e-15
"""Violation that is the rounding of a cosine and no more."""

SIGN = 1e-13
"""Relative rounding of a product of the matrix with the answer, below which a sign means nothing."""


def dot(a: list[float], b: list[float]) -> float:
    """Inner product."""
    return sum(map(mul, a, b), 0.0)


def factor(matrix: Rows, chosen: Sequence[int], rank: float = RANK) -> Rows | None:
    """Cholesky factor of the rows and columns ``chosen``; None if they are dependent."""
    lower: Rows = []
    for i in chosen:
        row = matrix[i]
        line: list[float] = []
        for above, j in zip(lower, chosen, strict=False):
            line.append((row[j] - sum(map(mul, line, above))) / above[-1])
        pivot = row[i] - sum(map(mul, line, line))
        if not pivot > rank * row[i]:
            return None
        line.append(sqrt(pivot))
        lower.append(line)
    return lower


def solve(lower: Rows, right: list[float]) -> list[float]:
    """Solves with a Cholesky factor."""
    forward: list[float] = []
    for line, value in zip(lower, right, strict=True):
        forward.append((value - sum(map(mul, line, forward))) / line[-1])
    for i in range(len(lower) - 1, -1, -1):
        line = lower[i]
        forward[i] = value = forward[i] / line[-1]
        for j in range(i):
            forward[j] -= line[j] * value
    return forward


def violation(
    matrix: Rows,
    linear: list[float],
    x: list[float],
    size: list[float],
    slopes: list[float] | None = None,
    norms: list[float] | None = None,
) -> float:
    """Largest violation of ``x >= 0``, ``y = matrix x + linear >= 0`` and ``x y = 0``.

    An inner product of rows is known up to the rounding of the product of their norms, also where it is
    nearly 0: each row counts relative to that. ``size`` holds such a product for ``linear``, or what it
    was summed from.

    Args:
        matrix: M, K x K.
        linear: q, of length K.
        x: the answer, of length K.
        size: of the terms of ``linear``, of length K.
        slopes: y, where it is known.
        norms: roots of the diagonal of M; None where they are about one.
    """
    if slopes is None:
        used = [i for i, value in enumerate(x) if value]
        slopes = _slopes(matrix, linear, used, [x[i] for i in used])
    if min(x) < 0 or not isfinite(sum(slopes)):
        return inf
    length = sum(x) if norms is None else dot(norms, x)
    worst = 0.0
    for i, y in enumerate(slopes):
        if y < 0 or (y > 0 and x[i]):
            terms = size[i] + (length if norms is None else norms[i] * length)
            worst = max(worst, abs(y) / terms if terms else inf)
    return worst


def _slopes(matrix: Rows, linear: list[float], used: list[int], part: list[float]) -> list[float]:
    """``matrix x + linear`` for an x that is zero but on ``used``; the matrix is symmetric."""
    slopes = linear
    for i, value in zip(used, part, strict=True):
        slopes = [y + value * m for y, m in zip(slopes, matrix[i], strict=True)]
    return slopes


def active_set(matrix: Rows, linear: list[float]) -> list[float]:
    r"""Minimises :math:`\frac12 x^\top M x + q^\top x` over :math:`x \ge 0`.

    Block pivoting first: all violated signs change sides at once, which ends in a few rounds where the
    rows in use are independent. Otherwise an active set that takes in one row at a time, in the manner
    of Lawson and Hanson, and never holds dependent rows. Where rows are so nearly dependent that one is
    missed then, the problem is solved with a little added to the diagonal, which makes the answer
    unique, and again around that answer until what was added is of no matter (the proximal point
    method).

    Args:
        matrix: M, positive semidefinite, K x K, with a diagonal of about one (or zero).
        linear: q, of length K, such that the minimum is bounded, summed from terms of at most one.

    Returns:
        x, of length K. Check it with :func:`violation`.
    """
    found = pivoted(matrix, linear)
    if found is not None:
        return found[0]
    x = _one_at_a_time(matrix, linear)
    off = violation(matrix, linear, x, [1.0] * len(x))
    return x if off <= EXACT else _with_ridge(matrix, linear, x, off)


def pivoted(
    matrix: Rows, linear: list[float], rank: float = RANK
) -> tuple[list[float], list[float]] | None:
    """The first part of :func:`active_set`: x and ``matrix x + linear``, or None if it does not end."""
    count = len(linear)
    used = [i for i, q in enumerate(linear) if q < -SIGN]
    if not used:
        return [0.0] * count, linear
    best, chances = count + 1, 3
    while True:
        lower = factor(matrix, used, rank)
        if lower is None:
            return None
        part = solve(lower, [-linear[i] for i in used])
        least = -SIGN * (1 + max(map(abs, part), default=0.0))
        slopes = _slopes(matrix, linear, used, part)
        wrong = [i for i, value in zip(used, part, strict=True) if value < 0]
        wrong += [i for i, y in enumerate(slopes) if y < least and i not in used]
        if not wrong:
            x = [0.0] * count
            for i, value in zip(used, part, strict=True):
                x[i] = value
            return x, slopes
        chances = 3 if len(wrong) < best else chances - 1
        best = min(best, len(wrong))
        if not chances:
            return None
        used = sorted(set(used).symmetric_difference(wrong))


def _with_ridge(matrix: Rows, linear: list[float], x: list[float], off: float) -> list[float]:
    """Betters x, which violates the conditions by ``off``."""
    regular = [[*row[:i], row[i] + RIDGE, *row[i + 1 :]] for i, row in enumerate(matrix)]
    best, least = x, off
    x = [0.0] * len(x)
    for _ in range(AROUND):
        around = [q - RIDGE * value for q, value in zip(linear, x, strict=True)]
        found = pivoted(regular, around, 0.0)
        x = _one_at_a_time(regular, around, RIDGE / 2) if found is None else found[0]
        off = violation(matrix, linear, x, [1.0] * len(x))
        if not off < least:
            break
        best, least = x, off
        if off <= EXACT:
            break
    return best


def _one_at_a_time(matrix: Rows, linear: list[float], rank: float = RANK) -> list[float]:
    count = len(linear)
    x = [0.0] * count
    used: list[int] = []
    refused: set[int] = set()
    for _ in range(20 * count):
        size = SIGN * (1 + max(x))
        steepest, enters = -size, -1
        for i in range(count):
            if i not in refused and i not in used:
                y = dot(matrix[i], x) + linear[i]
                if y < steepest:
                    steepest, enters = y, i
        if enters < 0:
            break
        lower = factor(matrix, [*used, enters], rank)
        if lower is None:
            refused.add(enters)
            continue
        used.append(enters)
        while True:
            part = solve(lower, [-linear[i] for i in used])
            if min(part) > 0:
                break
            # Move until the first of the rows in use reaches zero, and let it go.
            step = min(x[i] / (x[i] - z) for i, z in zip(used, part, strict=True) if z <= 0)
            for i, z in zip(used, part, strict=True):
                x[i] += step * (z - x[i])
            leaves = min((x[i], i) for i, z in zip(used, part, strict=True) if z <= 0)[1]
            x[leaves] = 0.0
            used.remove(leaves)
            refused.clear()
            lower = factor(matrix, used, rank)
            if lower is None or not used:
                return x
        for i, z in zip(used, part, strict=True):
            if not isfinite(z):
                return [inf] * count
            x[i] = z
    return x
