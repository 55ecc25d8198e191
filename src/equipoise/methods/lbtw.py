"""LBTW: loss-balanced task weighting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import check_positive, not_negative


class LBTW(LossMethod):
    r"""Weights a task by how little its loss has fallen since the epoch began.

    .. math:: w_k = K \frac{r_k^\alpha}{\sum_j r_j^\alpha}, \quad r_k = L_k / L_k^\text{first}

    with :math:`L_k^\text{first}` the loss of the epoch's first batch. Without :meth:`end_epoch` it
    is the first loss of all.

    Args:
        alpha: :math:`\alpha \ge 0`; 0 weights all tasks with 1.

    Raises:
        ValueError: a loss is not positive, or ``alpha`` is negative.

    References:
        Liu et al., *Loss-Balanced Task Weighting to Reduce Negative Transfer in Multi-Task
        Learning*, AAAI 2019 (student abstract).
    """

    positive_losses = True
    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"first": (-1,)}
    first: Tensor

    card = Card(
        id="lbtw",
        name="LBTW",
        title="Loss-Balanced Task Weighting to Reduce Negative Transfer in Multi-Task Learning",
        authors="Liu, Liang, Gitter",
        venue="AAAI",
        year=2019,
        arxiv=None,
        equation=r"w_k \propto (L_k / L_k^\text{first})^\alpha",
        heads="weighted",
        weight_sum="K",
        degree=0.0,
        unit_free=False,
        defaults="alpha 0.5, a typical value of the paper.",
        deviations="The weights are rescaled to sum K, as in the official code.",
    )

    awaits = "end_epoch()"

    def __init__(self, alpha: float = 0.5) -> None:
        super().__init__()
        self.alpha = not_negative("alpha", alpha)

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        check_positive(self, losses)
        losses = losses.detach()
        self.first = self.recall("first", losses)
        return losses.shape[-1] * (self.alpha * (losses / self.first).log()).softmax(-1)

    def end_epoch(self) -> None:
        """See :meth:`Method.end_epoch`."""
        if getattr(self, "first", None) is not None:
            self.first = torch.full_like(self.first, torch.nan)
            self._unseen = True
