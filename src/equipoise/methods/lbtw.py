"""LBTW: loss-balanced task weighting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import first_positive, not_negative, off_zero


class LBTW(LossMethod):
    r"""Weights a task by how little its loss has fallen since the epoch began.

    .. math:: w_k = K \frac{r_k^\alpha}{\sum_j r_j^\alpha}, \quad r_k = L_k / L_k^\text{first}

    with :math:`L_k^\text{first}` the loss of the epoch's first batch. Without :meth:`end_epoch` it
    is the first loss of all. A first loss of 0 gives way to the first above it.

    Args:
        alpha: :math:`\alpha \ge 0`; 0 weights all tasks with 1.

    Raises:
        ValueError: a loss is negative, or ``alpha`` is negative.

    References:
        Liu et al., *Loss-Balanced Task Weighting to Reduce Negative Transfer in Multi-Task
        Learning*, AAAI 2019 (student abstract).
    """

    least_loss = "zero"
    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"first": (-1,)}
    first: Tensor

    card = Card(
        id="lbtw",
        name="LBTW",
        heads="weighted",
        weight_sum="K",
        degree=0.0,
        defaults="alpha 0.5, a typical value of the paper.",
        deviations="The weights are rescaled to sum K, as in the official code.",
    )

    awaits = "end_epoch()"

    def __init__(self, alpha: float = 0.5) -> None:
        super().__init__()
        self.alpha = not_negative("alpha", alpha)

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        losses = losses.detach()
        self.first = first_positive(self.recall("first", losses), losses)
        rate = off_zero(losses) / off_zero(self.first)
        return losses.shape[-1] * (self.alpha * rate.log()).softmax(-1)

    def end_epoch(self) -> None:
        """See :meth:`Method.end_epoch`."""
        if self.knows("first"):
            self.first = torch.full_like(self.first, torch.nan)
            self._unseen = True
