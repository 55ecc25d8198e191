"""GroupDRO over tasks: the worst mixture of losses, learned by exponentiated gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import not_negative


class GroupDRO(LossMethod):
    r"""Weights that grow where the loss is large.

    .. math:: w \leftarrow \frac{w \odot e^{\eta L}}{\sum_j w_j e^{\eta L_j}}

    starting at 1 / K. Worked out in logarithms, so that a task never loses its weight for good.

    Args:
        eta: :math:`\eta \ge 0`, step size, in units of 1 / loss.

    Raises:
        ValueError: ``eta`` is negative.

    References:
        Sagawa et al., *Distributionally Robust Neural Networks for Group Shifts: On the Importance
        of Regularization for Worst-Case Generalization*, ICLR 2020, arXiv:1911.08731; tasks take
        the place of groups.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"log_weights": (-1,)}
    log_weights: Tensor

    card = Card(
        id="group_dro",
        name="GroupDRO",
        heads="weighted",
        weight_sum="1",
        guarantee="converges to the worst-case mixture for convex losses",
        defaults="eta 0.01, as in the official code.",
    )

    def __init__(self, eta: float = 0.01) -> None:
        super().__init__()
        self.eta = not_negative("eta", eta)

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        losses = losses.detach()
        logs = self.recall("log_weights", torch.zeros_like(losses)) + self.eta * losses
        # Centred only when all tasks are here: absent ones keep their proportion to the others.
        everyone = self._present is None
        self.log_weights = logs - logs.mean(-1, keepdim=True) if everyone else logs
        return logs.softmax(-1)
