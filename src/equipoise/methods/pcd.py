"""PCD: the primary task's gradient, moved just enough that every other task gets its share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import PerTask, fraction, not_negative
from equipoise.solvers import Solution, nonnegative_qp
from equipoise.solvers.scaling import cosines

APART = 1e-12
"""Constraints cannot hold together where the shortest vector that meets them is, against what is asked for
one by one and squared, longer than the inverse of this: in single precision they are opposite."""

LONG = 1e4
"""A multiplier this large, against what is asked for, makes it worth to look whether that is so."""

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

    Where no d meets the constraints (two opposite gradients), or only one that is a million times longer
    than what they ask for, they are dropped and d is :math:`g_p`. Where :math:`g_p` or
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
        title=(
            "Not All Objectives Are Born Equal: Priority-Constrained Descent for Hierarchical "
            "Multi-Objective Optimization"
        ),
        authors="Varam, AlHajri",
        venue="TMLR",
        year=2026,
        arxiv="2606.29521",
        equation=(
            r"\tilde d = \operatorname{argmin}_d \|d - \tilde g_p\| \ \text{s.t.}\ \langle \tilde g_j, d "
            r"\rangle \ge \tau \|\tilde g_j\|^2, \quad \tilde g_k = g_k / \sqrt{\hat v_k + \epsilon}"
        ),
        heads="unweighted",
        weight_sum="free",
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
        combined[..., others] = _added(part[..., others], part[..., first], asked).accept(
            gramian, "pcd"
        )
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


def _added(gramian: Tensor, inner: Tensor, asked: Tensor) -> Solution:
    """What of each other gradient is added to the primary one; 0 where no d meets the constraints.

    Args:
        gramian: of the other gradients, ``Tensor[..., K - 1, K - 1]``.
        inner: their products with the primary one, ``Tensor[..., K - 1]``.
        asked: what their products with the answer have to reach, ``Tensor[..., K - 1]``.
    """
    found = nonnegative_qp(
        gramian, (inner - asked).unsqueeze(-2), (inner.abs() + asked).unsqueeze(-2)
    )
    x, residual = found.x.squeeze(-2), found.residual.squeeze(-1)
    matrix, inverse = cosines(gramian)
    heights = asked * inverse
    highest = heights.amax(-1, keepdim=True)
    fine = (x <= LONG * highest * inverse).all(-1) & (residual <= 1e-6)
    if bool(fine.all()):
        return Solution(x, residual)
    # By Farkas' lemma: some combination of the others, not negative, is 0 and asks for more than that.
    heights = heights / highest.masked_fill(highest == 0, 1.0)
    lifted = matrix + heights.unsqueeze(-1) * heights.unsqueeze(-2)
    proof = nonnegative_qp(lifted, -heights.unsqueeze(-2))
    gap = 1 - (proof.x.squeeze(-2) * heights).sum(-1)
    apart = (gap <= APART) & (proof.residual.squeeze(-1) <= 1e-6)
    return Solution(x.masked_fill(apart.unsqueeze(-1), 0.0), residual.masked_fill(apart, 0.0))
