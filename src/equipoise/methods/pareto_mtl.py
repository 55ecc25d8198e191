"""Pareto MTL: common descent that keeps the losses in the sector of one preference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import PerTask, not_negative
from equipoise.methods.upgrad import preferred
from equipoise.solvers import min_norm

FLAT = 1e-14
"""A constraint's gradient is 0 where it is, squared, this small against the terms that cancel."""


class ParetoMTL(GramianMethod):
    r"""Descent of all losses and of the constraints that border the sector of a preference.

    The losses shall be nearer in angle to the preference u than to every other vector :math:`v_j`:
    :math:`c_j = \langle v_j - u, L / \|L\| \rangle \le 0`. With the rows
    :math:`B = [I;\ v_j - u \text{ for every } j \text{ with } c_j > -\epsilon]`,

    .. math:: w = B^\top \lambda, \qquad
              \lambda = \operatorname{argmin}_{\lambda \in \Delta} \|J^\top B^\top \lambda\|^2

    is the min-norm point of the task gradients and the gradients of the constraints in force. Within
    the sector this is MGDA. Outside, the weights of single tasks may be negative. Where a constraint
    in force has gradient 0 the point is stationary, and the update 0.

    With ``approach`` steps, the first ones look at nothing but the constraints in force, until the
    losses have once been in the sector.

    Args:
        preference: u, not negative, one a task, in the space of the losses: a larger one allows a
            larger loss. None is the same for all.
        others: the vectors v, each not negative, one number a task; None takes the axes, one a task.
        epsilon: how near its border a constraint comes into force, as a difference of cosines.
        approach: most steps spent on reaching the sector first.

    Raises:
        ValueError: an option out of its range or of the wrong length; losses that are all 0.

    References:
        Lin et al., *Pareto Multi-Task Learning*, NeurIPS 2019, arXiv:1912.12854.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"spent": ()}
    spent: Tensor
    card = Card(
        id="pareto_mtl",
        name="Pareto MTL",
        heads="weighted",
        degree=0.0,
        guarantee="no loss and no constraint in force gets worse; d = 0 only where stationary",
        defaults=(
            "epsilon = 0, as in the official code. Equal preference, the axes as the other vectors and "
            "no steps of approach: ours; the official code spends up to two epochs on the approach."
        ),
        deviations=(
            "The official code handles two tasks, brings the absolute weights to sum K and solves the "
            "min-norm problem to a tolerance; here any number of tasks, the paper's weights, exact."
        ),
    )

    def __init__(
        self,
        preference: Sequence[float] | None = None,
        others: Sequence[Sequence[float]] | None = None,
        epsilon: float = 0.0,
        approach: int = 0,
    ) -> None:
        super().__init__()
        self.preference = None if preference is None else _direction("preference", preference)
        self.others = None if others is None else [_direction("others", v) for v in others]
        self.epsilon = not_negative("epsilon", epsilon)
        self.approach = int(not_negative("approach", approach))

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        exact = gramian.double()
        values = losses.to(exact)
        borders = self._borders(exact, values)
        length = values.norm(dim=-1, keepdim=True)
        if not (length > 0).all().tolist():
            raise ValueError(
                "pareto_mtl compares the direction of the losses with the preference, and losses that "
                "are all 0 have none; stop there, or leave the tasks out"
            )
        height = (borders @ (values / length).unsqueeze(-1)).squeeze(-1)
        active = (height > -self.epsilon) & (borders != 0).any(-1)
        first = torch.eye(exact.shape[-1], dtype=exact.dtype, device=exact.device).expand_as(exact)
        if self.approach:
            first = self._approached(first, borders, height, active)
        # A row that is not in force repeats one that is, which leaves the hull as it is.
        rows = torch.cat([first, torch.where(active.unsqueeze(-1), borders, first[..., :1, :])], -2)
        products = rows @ exact @ rows.mT
        terms = (rows.abs() @ exact.abs() * rows.abs()).sum(-1)
        flat = products.diagonal(dim1=-2, dim2=-1) <= FLAT * terms
        products = products.masked_fill(flat.unsqueeze(-1) | flat.unsqueeze(-2), 0.0)
        multipliers = min_norm(products).accept(gramian, "pareto_mtl")
        weights: Tensor = (multipliers.unsqueeze(-2) @ rows).squeeze(-2)
        return weights.to(gramian)

    def _borders(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """The normals ``v - u`` of the sector's borders, ``Tensor[V, K]``."""
        one = gramian.reshape(-1, *gramian.shape[-2:])[0]
        u = _unit(preferred(self, self.preference, one, losses))
        if self.others is None:
            v = torch.eye(len(u), dtype=u.dtype, device=u.device)
        else:
            v = _unit(torch.stack([vector.of(self, losses) for vector in self.others]))
        near = (v - u).abs().amax(-1, keepdim=True) <= 1e-12
        return torch.where(near, 0.0, v - u)

    def _approached(self, first: Tensor, borders: Tensor, height: Tensor, active: Tensor) -> Tensor:
        """The rows of the losses; where the sector is yet to be reached, one of a border instead."""
        outside = active.any(-1)
        spent = self.recall("spent", torch.zeros_like(height[..., 0]))
        now = outside & (spent < self.approach)
        self.spent = torch.where(now, spent + 1, torch.where(outside, spent, torch.inf))
        furthest = torch.where(active, height, -torch.inf).argmax(-1)
        border: Tensor = borders[furthest].unsqueeze(-2)
        return torch.where(now.unsqueeze(-1).unsqueeze(-1), border, first)


def _direction(option: str, vector: Sequence[float]) -> PerTask:
    values = PerTask(option, vector)
    if values.exact.ndim != 1:
        raise ValueError(f"option '{option}' takes vectors with one number a task; got {vector}")
    if not bool((values.exact >= 0).all()) or not bool(values.exact.any()):
        raise ValueError(
            f"option '{option}' takes vectors without negative numbers that are not all 0; got {vector}"
        )
    return values


def _unit(vectors: Tensor) -> Tensor:
    norms = vectors.norm(dim=-1, keepdim=True)
    units: Tensor = vectors / norms.masked_fill(norms == 0, 1.0)
    return units
