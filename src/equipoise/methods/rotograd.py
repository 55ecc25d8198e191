"""RotoGrad: task gradients of equal norm (the scaling; the rotations are a module)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod


class RotoGrad(GramianMethod):
    r"""Scales task gradients to a common norm that follows the tasks which learn more slowly.

    .. math::
        w_k = \frac{c}{\|g_k\|}, \quad c = \sum_j a_j \|g_j\|, \quad
        a_j \propto \frac{\|g_j\|}{\|g_j\|_{t_0}}, \ \sum_j a_j = 1

    The reference norms are those of the first step and are taken anew after ``burn_in`` steps. The paper
    balances at the shared features, each rotated for its task by :class:`equipoise.nn.Rotations`; without
    the rotations this is the paper's "scale only".

    Args:
        burn_in: steps after which the reference norms are taken anew.

    References:
        Javaloy, Valera, *RotoGrad: Gradient Homogenization in Multitask Learning*, ICLR 2022,
        arXiv:2103.02631.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"first_norms": (-1,), "steps": ()}
    first_norms: Tensor
    steps: Tensor

    card = Card(
        id="rotograd",
        name="RotoGrad",
        heads="unweighted",
        degree=0.0,
        unit_free=True,
        guarantee="all weighted task gradients have the same norm",
        defaults="20 steps of burn-in, as in the authors' code.",
        deviations=(
            "A task whose gradient is zero gets weight 0 and no part in the common norm; the authors' code "
            "divides by it."
        ),
    )

    def __init__(self, burn_in: int = 20) -> None:
        super().__init__()
        if burn_in < 0:
            raise ValueError(f"burn_in={burn_in}: a number of steps is not negative")
        self.burn_in = burn_in

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        norms = gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
        steps = self.recall("steps", torch.zeros((), dtype=norms.dtype))
        first = self.recall("first_norms", norms)
        if int(steps) == self.burn_in:
            first = norms
        self.first_norms, self.steps = first, steps + 1
        rate = torch.where(first > 0, norms / first, torch.zeros_like(norms))
        total = rate.sum(-1, keepdim=True)
        share = rate / torch.where(total > 0, total, torch.ones_like(total))
        common = (share * norms).sum(-1, keepdim=True)
        return torch.where(norms > 0, common / norms, torch.zeros_like(norms))
