"""LDC-MTL without its router: learned weights that keep the weighted losses equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card
from equipoise.methods.learned import Learned
from equipoise.methods.options import PerTask, first_positive, not_negative, off_zero


class LDCMTL(Learned):
    r"""Loss discrepancy control, with free weights in place of the paper's router network.

    .. math::
        \min_{\theta, s} \sum_k v_k \ell_k + \lambda \sum_{k < K} |v_k \ell_k - v_{k+1} \ell_{k+1}|,
        \quad v = \operatorname{softmax}(s), \quad \ell_k = \frac{L_k \min_j L_j(0)}{L_k(0)}

    with :math:`L(0)` the losses of the first step; a task that starts at 0 takes its first loss above
    it. The weights are the derivatives by :math:`L_k`, and the sum of weights times losses is the
    objective itself. Only neighbouring tasks are compared, so the order of the tasks matters.

    Args:
        strength: :math:`\lambda \ge 0`.
        init: start of ``s``, one number or one a task.

    Raises:
        ValueError: a loss is negative, or an option is out of its range.

    References:
        Xiao et al., *LDC-MTL: Balancing Multi-Task Learning through Scalable Loss Discrepancy
        Control*, 2025, arXiv:2502.08585.
    """

    least_loss = "zero"
    symmetric = False
    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"first": (-1,)}
    first: Tensor

    card = Card(
        id="ldc_mtl",
        name="LDC-MTL",
        heads="weighted",
        unit_free=True,
        defaults="Strength 0.05, that of the official code on NYUv2; s starts at 0.",
    )

    def __init__(self, strength: float = 0.05, init: float | Sequence[float] = 0.0) -> None:
        super().__init__(PerTask("init", init))
        self.strength = not_negative("strength", strength)

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        losses = losses.detach()
        self.first = first_positive(self.recall("first", losses), losses)
        v = self.learned(losses).softmax(-1)
        # In units of the first losses, where equal tasks are exactly equal.
        above = (v * (losses / off_zero(self.first))).detach().diff(dim=-1).sign()
        # d|a_k - a_(k+1)|: the larger of two neighbours is pushed down, the smaller up.
        push = losses.new_zeros(losses.shape)
        push[..., 1:] += above
        push[..., :-1] -= above
        known = self.first > 0
        least = torch.where(known, self.first, torch.inf).amin(-1, keepdim=True)
        unit = torch.where(known, least / self.first, 1)
        return v * (1 + self.strength * push) * unit
