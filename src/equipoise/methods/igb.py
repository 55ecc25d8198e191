"""IGB (v1): improvable gap balancing."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.methods.base import Card
from equipoise.methods.early_epoch import EarlyEpoch
from equipoise.methods.options import off_zero


class IGB(EarlyEpoch):
    r"""Log losses, weighted by how far each loss still is from zero in units of an early epoch.

    .. math:: w_k = \frac{K}{L_k} \operatorname{softmax}_k(L_k / \bar L_k)

    with :math:`\bar L_k` the mean loss of an early epoch, and :math:`w_k = 1 / L_k` up to it. It needs
    epochs: :meth:`end_epoch` or ``period``. A loss of exactly 0 counts as 1e-8. The second version of
    the paper, an agent trained by reinforcement learning, is not here.

    Args:
        base_epoch: the epoch whose mean losses are :math:`\bar L`, counted from 0.
        period: steps in an epoch; None leaves it to :meth:`end_epoch`.

    Raises:
        ValueError: a loss is negative, or an option is out of its range.

    References:
        Dai et al., *Improvable Gap Balancing for Multi-Task Learning*, UAI 2023.
    """

    least_loss = "zero"

    card = Card(
        id="igb",
        name="IGBv1",
        heads="weighted",
        degree=-1.0,
        unit_free=True,
        defaults="Base epoch 1, the second; the official code leaves it to its command line.",
        deviations="The published weights act on logarithms of losses, hence the 1 / L.",
    )

    def __init__(self, base_epoch: int = 1, period: int | None = None) -> None:
        super().__init__(base_epoch, period)

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        base, over = self.early_mean(losses.detach())
        losses = off_zero(losses.detach())
        share = losses.shape[-1] * (losses / base).softmax(-1)
        return torch.where(over, share, 1.0) / losses
