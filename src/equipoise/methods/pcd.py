"""PCD: the primary task's gradient, moved just enough that every other task gets its share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import PerTask, fraction, not_negative
from equipoise.solvers import Solution, nonnegative_qp
from equipoise.solvers.active_set import SIGN
from equipoise.solvers.nonnegative_qp import violations
from equipoise.solvers.scaling import cosines

APART = 1e-12
"""Constraints cannot hold together where the shortest correction that meets them is, against what they miss
one by one and squared, longer than the inverse of this: in single precision they are opposite."""

ROUNDING = 1e-14
"""Of a cosine, times ten: it counts with the squares of what it is multiplied by."""

NOTHING = 1e-14
"""The combination is 0 where it is, squared, this small against the terms that cancel in it."""


class PCD(GramianMethod):
    r"""Priority-constrained descent: follows one task, and keeps a share of progress for all others.

    .. math:: \tilde d = \operatorname{argmin}_d \|d - \tilde g_p\|^2 \quad \text{s.t.} \quad
              \langle \tilde g_j, d \rangle \ge \tau_j \|\tilde g_j\|^2 \ \text{ for all } j \ne p,
              \qquad d = \|g_p\| \frac{\tilde d}{\|\tilde d\|}

    with p the primary task and :math:`\tilde g_k = g_k / \sqrt{\hat v_k + \epsilon}`, where
    :math:`\hat v_k` is the average of :math:`\|g_k\|^2` over the steps (decay :math:`\beta`, with the
    correction for its start). The weight of the primary task is positive, those of the others are 0
    where their constraint holds by itself.

    Where no d meets the constraints (two opposite gradients), or only by a correction a million
    times longer than what each of them misses, they are dropped and d is :math:`g_p`. Where :math:`g_p` or
    :math:`\tilde d` is 0, so is d.

    Args:
        tau: :math:`\tau` in [0, 1], the share of the progress that a step along its own gradient would
            bring; one number or one a task (that of the primary task is not looked at).
        primary: position of the primary task.
        beta: :math:`\beta` in [0, 1), decay of the average; 0 looks at this step's norm alone.
        eps: :math:`\epsilon`, not negative. Gradients far shorter than its root are not brought to unit
            length; 0 makes the method free of units.

    Raises:
        ValueError: an option out of its range; the primary task is not among those of the step.

    References:
        Varam and AlHajri, *Not All Objectives Are Born Equal: Priority-Constrained Descent for
        Hierarchical Multi-Objective Optimization*, TMLR 2026, arXiv:2606.29521.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"average": (-1,), "count": (-1,)}
    average: Tensor
    count: Tensor
    symmetric = False
    card = Card(
        id="pcd",
        name="PCD",
        heads="unweighted",
        degree=0.0,
        unit_free=True,
        guarantee="every other task gets a share tau of the progress along its own gradient",
        defaults="tau = 0.02, beta = 0.999, eps = 1e-8, as in TorchJD; the first task is primary.",
        deviations="TorchJD keeps one count of steps for all tasks, here each has its own.",
        torchjd="PCD",
    )

    def __init__(
        self,
        tau: float | Sequence[float] = 0.02,
        primary: int = 0,
        beta: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        self.tau = PerTask("tau", tau)
        if not bool(((self.tau.exact >= 0) & (self.tau.exact <= 1)).all()):
            raise ValueError(f"option 'tau' must lie in [0, 1]; got {tau}")
        if primary < 0:
            raise ValueError(f"option 'primary' counts the tasks from 0; got {primary}")
        self.primary = primary
        self.beta = fraction("beta", beta)
        self.eps = not_negative("eps", eps)

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        exact = gramian.double()
        tasks = exact.shape[-1]
        first = self._position(tasks)
        scales = self._scales(exact.diagonal(dim1=-2, dim2=-1))
        scaled = exact * scales.unsqueeze(-1) * scales.unsqueeze(-2)
        squares = scaled.diagonal(dim1=-2, dim2=-1)
        combined = torch.zeros_like(squares)
        combined[..., first] = 1.0
        if tasks == 1:
            return combined.to(gramian)
        others = [task for task in range(tasks) if task != first]
        asked = (self.tau.of(self, squares) * squares)[..., others]
        part = scaled[..., others, :]
        combined[..., others] = _added(
            part[..., others], part[..., first], asked, squares[..., first : first + 1].sqrt()
        ).accept(gramian, "pcd")
        square = ((scaled @ combined.unsqueeze(-1)).squeeze(-1) * combined).sum(-1, keepdim=True)
        terms = (combined * squares.clamp_min(0.0).sqrt()).sum(-1, keepdim=True).square()
        length = exact[..., first, first].unsqueeze(-1)
        moves = (square > NOTHING * terms) & (length > 0)
        factor = (length / square.masked_fill(~moves, 1.0)).sqrt().masked_fill(~moves, 0.0)
        return (factor * scales * combined).to(gramian)

    def _scales(self, squares: Tensor) -> Tensor:
        """What brings every gradient to about unit length; the average advances."""
        zero = torch.zeros_like(squares)
        count = self.recall("count", zero) + 1
        average = self.beta * self.recall("average", zero) + (1 - self.beta) * squares
        self.count, self.average = count, average
        inverse = (average / (1 - self.beta**count) + self.eps).rsqrt()
        return torch.where(average + self.eps > 0, inverse, 0.0)

    def _position(self, tasks: int) -> int:
        """Where the primary task is among those of the step."""
        position = self.primary
        if self._present is not None:
            present = self._present.tolist()
            position = present.index(position) if position in present else tasks
        if position >= tasks:
            raise ValueError(
                f"pcd follows the primary task, at position {self.primary} counted from 0, which is not "
                f"among the {tasks} tasks of this step; give its loss, or another 'primary'"
            )
        return position


def _added(gramian: Tensor, inner: Tensor, asked: Tensor, length: Tensor) -> Solution:
    """What of each other gradient is added to the primary one; 0 where no d meets the constraints.

    The shortest y with ``U y >= h``, for unit rows U, is read from the point of the cone of the rows
    ``(u_j, h_j)`` that is nearest to ``(0, 1)`` (Lawson and Hanson's least-distance programming), which
    there always is: the two coincide where no y meets the constraints.

    Args:
        gramian: of the other gradients, ``Tensor[..., K - 1, K - 1]``.
        inner: their products with the primary one, ``Tensor[..., K - 1]``.
        asked: what their products with the answer have to reach, ``Tensor[..., K - 1]``.
        length: of the primary gradient, ``Tensor[..., 1]``.
    """
    matrix, inverse = cosines(gramian)
    missing = (asked - inner) * inverse
    # The terms of a product of two gradients are as large as both together.
    size = asked * inverse + length
    missing = missing.masked_fill(missing.abs() <= SIGN * size, 0.0)
    unit = missing.abs().amax(-1, keepdim=True)
    unit = unit.masked_fill(unit == 0, 1.0)
    heights, size = missing / unit, size / unit
    lifted = matrix + heights.unsqueeze(-1) * heights.unsqueeze(-2)
    x = nonnegative_qp(lifted, -heights.unsqueeze(-2), size.unsqueeze(-2)).x.squeeze(-2)
    gap = 1 - (x * heights).sum(-1, keepdim=True)
    apart = gap <= APART + ROUNDING * x.sum(-1, keepdim=True).square()
    x = (x / gap.masked_fill(apart, 1.0)).masked_fill(apart, 0.0)
    slopes = (matrix @ x.unsqueeze(-1)).squeeze(-1) - heights
    residual = violations(matrix, x, slopes, size).masked_fill(apart.squeeze(-1), 0.0)
    return Solution(x * unit * inverse, residual)
