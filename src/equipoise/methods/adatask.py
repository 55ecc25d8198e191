"""AdaTask: an Adam for every task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card
from equipoise.methods.options import fraction, positive
from equipoise.methods.tracked import Tracked


class AdaTask(Tracked):
    r"""Sums the Adam steps that each task would take by itself.

    .. math::
        m_k \leftarrow \beta_1 m_k + (1 - \beta_1) g_k, \quad
        v_k \leftarrow \beta_2 v_k + (1 - \beta_2) g_k^2, \quad
        d = \sum_k \frac{\hat m_k}{\sqrt{\hat v_k} + \epsilon}

    Each task's accumulators are its own, so no task's large gradients slow the others down. ``d`` is
    already an adaptive step: give the shared parameters to plain SGD, whose learning rate then plays the
    part of Adam's, and the heads to an Adam of their own.

    Args:
        beta1: :math:`\beta_1`.
        beta2: :math:`\beta_2`.
        eps: :math:`\epsilon`.

    References:
        Yang et al., *AdaTask: A Task-Aware Adaptive Learning Rate Approach to Multi-Task Learning*,
        AAAI 2023, arXiv:2211.15055.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "moment": (-2,),
        "square": (-2,),
        "updates": (-1,),
    }
    moment: Tensor
    square: Tensor
    updates: Tensor
    keeps_direction = False

    card = Card(
        id="adatask",
        name="AdaTask",
        heads="unweighted",
        unit_free=True,
        defaults="Adam's usual constants.",
        deviations="The authors' code ignores weight decay, which is SGD's here.",
    )

    def __init__(self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        super().__init__()
        self.beta1 = fraction("beta1", beta1)
        self.beta2 = fraction("beta2", beta2)
        self.eps = positive("eps", eps)

    def combine(self, jacobian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`JacobianMethod.combine`."""
        zero = torch.zeros_like(jacobian)
        updates = self.recall("updates", torch.zeros_like(jacobian[..., 0])) + 1
        self.updates = updates
        self.moment = torch.lerp(jacobian, self.recall("moment", zero), self.beta1)
        self.square = torch.lerp(jacobian**2, self.recall("square", zero), self.beta2)
        first = self.moment / (1 - self.beta1 ** updates.unsqueeze(-1))
        second = self.square / (1 - self.beta2 ** updates.unsqueeze(-1))
        return (first / (second.sqrt() + self.eps)).sum(-2)
