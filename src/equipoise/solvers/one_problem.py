"""One problem, as in a training step: vectors as plain floats, and torch where many rows are in use.

A step of training leaves the caches full of other things, so that every kind of call of torch costs far
more than its arithmetic. What counts is to make few of them.
"""

from __future__ import annotations

from array import array
from math import sqrt

import torch
from torch import Tensor

from equipoise.solvers.active_set import RANK, SIGN, factor, solve, violation
from equipoise.solvers.scaling import FEW, vector


class Symmetric:
    """A positive semidefinite matrix of which principal parts are solved.

    Attributes:
        tensor: ``Tensor[K, K]`` in float64 on the CPU.
        rows: the same in plain floats.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.tensor = matrix.to("cpu", torch.float64)
        self.rows = self.tensor.tolist()

    def norms(self) -> list[float]:
        """Roots of the diagonal; 0 where it is not positive."""
        return [sqrt(row[i]) if row[i] > 0 else 0.0 for i, row in enumerate(self.rows)]

    def solve(
        self, used: list[int], *right: list[float], rank: float = RANK
    ) -> list[list[float]] | None:
        """Solves on the rows and columns ``used``; None if these are dependent.

        Above ``FEW`` rows only a clear case is told from the factor, unless ``rank`` is more than
        rounding: check the answer.
        """
        if len(used) <= FEW:
            lower = factor(self.rows, used, rank)
            return None if lower is None else [solve(lower, side) for side in right]
        part = self.tensor
        if len(used) < len(self.rows):
            index = torch.frombuffer(array("q", used), dtype=torch.int64)
            part = part.index_select(0, index).index_select(1, index)
        factored, broken = torch.linalg.cholesky_ex(part)
        if broken.tolist():
            return None
        if rank > RANK and (factored.diagonal().square() <= rank * part.diagonal()).any().tolist():
            return None
        sides = vector([value for side in right for value in side]).view(len(right), -1).mT
        solved: list[list[float]] = torch.cholesky_solve(sides, factored).mT.tolist()
        return solved

    def times(self, used: list[int], part: list[float], plus: list[float]) -> list[float]:
        """The matrix times a vector that is zero but on ``used``, plus another vector."""
        if len(used) <= FEW:
            for i, value in zip(used, part, strict=True):
                plus = [y + value * m for y, m in zip(plus, self.rows[i], strict=True)]
            return plus
        product: list[float] = torch.mv(self.tensor, vector(spread(used, part, len(plus)))).tolist()
        return [y + p for y, p in zip(plus, product, strict=True)]


def spread(used: list[int], part: list[float], count: int) -> list[float]:
    """A vector of length ``count`` that is ``part`` on ``used``, and zero elsewhere."""
    x = [0.0] * count
    for i, value in zip(used, part, strict=True):
        x[i] = value
    return x


def one_qp(
    matrix: Symmetric, linear: list[float], size: list[float], norms: list[float]
) -> tuple[list[float], float] | None:
    r"""Minimises :math:`\frac12 x^\top M x + q^\top x` over :math:`x \ge 0`.

    Block pivoting on the matrix as it is: a Cholesky factor minds no scale, and what is rounding is
    judged relative to the norms.

    Args:
        matrix: M, K x K.
        linear: q, of length K.
        size: of the terms that q is the sum of.
        norms: roots of the diagonal of M, or of the part of it that is to count as unit.

    Returns:
        x and its residual; None where block pivoting does not settle it.
    """
    count = len(linear)
    if min(linear) >= 0:
        return [0.0] * count, 0.0
    unit = max([s / n for s, n in zip(size, norms, strict=True) if n > 0], default=0.0) or 1.0
    noise = SIGN * unit
    used = [i for i, q in enumerate(linear) if q < -noise * norms[i]]
    best, chances = count + 1, 3
    while chances:
        if not used:
            part: list[float] = []
            slopes = linear
        else:
            solved = matrix.solve(used, [-linear[i] for i in used])
            if solved is None:
                break
            part = solved[0]
            slopes = matrix.times(used, part, linear)
            most = max([abs(value) * norms[i] for i, value in zip(used, part, strict=True)])
            noise = SIGN * (unit + most)
        wrong = [i for i, value in zip(used, part, strict=True) if value < 0]
        low = [i for i, y in enumerate(slopes) if y < -noise * norms[i]]
        wrong += set(low).difference(used)
        if not wrong:
            x = spread(used, part, count)
            residual = violation(matrix.rows, linear, x, size, slopes, norms)
            if not residual <= 10 * SIGN:
                break
            return x, residual
        chances = 3 if len(wrong) < best else chances - 1
        best = min(best, len(wrong))
        used = sorted(set(used).symmetric_difference(wrong))
    return None
