"""CoV: weights by the coefficient of variation of the losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import fraction, off_zero

VARIANCE_FLOOR = 1e-8  # as in the official code; keeps constant losses from 0 / 0


class CoV(LossMethod):
    r"""A loss that still varies, relative to its own mean, counts more.

    .. math::
        w_k = \frac{c_k}{\sum_j c_j}, \quad c_k = \frac{\sigma(\ell_k)}{\mu(\ell_k)}, \quad
        \ell_k(t) = \frac{L_k(t)}{\mu(L_k)}

    with :math:`\mu, \sigma` the running mean and standard deviation over the steps before. The
    weights are 1 / K until every task present has two steps behind it.
    A loss of exactly 0 counts as 1e-8.

    Args:
        decay: None averages all steps alike; a value in [0, 1) forgets old steps exponentially.

    Raises:
        ValueError: a loss is negative, or ``decay`` is outside [0, 1).

    References:
        Groenendijk et al., *Multi-Loss Weighting with Coefficient of Variations*, WACV 2021,
        arXiv:2009.01717.
    """

    least_loss = "zero"
    state: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "count": (-1,),
        "mean_loss": (-1,),
        "mean_ratio": (-1,),
        "variance": (-1,),
    }
    count: Tensor
    mean_loss: Tensor
    mean_ratio: Tensor
    variance: Tensor

    card = Card(
        id="cov",
        name="CoV",
        heads="weighted",
        weight_sum="1",
        degree=0.0,
        defaults="All steps averaged alike, as in the paper.",
        deviations=(
            "The official code's decaying form divides its sum of squares by the number of steps, "
            "so that the variance shrinks with time; here the variance decays as the mean does."
        ),
    )

    def __init__(self, decay: float | None = None) -> None:
        super().__init__()
        self.decay = None if decay is None else fraction("decay", decay)

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        losses = losses.detach()
        zero = torch.zeros_like(losses)
        count = self.recall("count", zero)
        mean_loss = self.recall("mean_loss", losses)
        mean_ratio = self.recall("mean_ratio", zero)
        variance = self.recall("variance", zero)

        variation = (variance + VARIANCE_FLOOR).sqrt() / mean_ratio
        known = (count >= 2).all(-1, keepdim=True)
        weights = torch.where(known, variation, 1)
        weights = weights / weights.sum(-1, keepdim=True)

        ratio = off_zero(losses) / off_zero(mean_loss)
        keep = count / (count + 1)
        if self.decay is not None:
            keep = self.decay * (count > 0).to(losses)
        step = ratio - mean_ratio
        self.mean_ratio = torch.lerp(ratio, mean_ratio, keep)  # never rounded to 0
        self.variance = keep * (variance + (1 - keep) * step**2)
        self.mean_loss = keep * mean_loss + (1 - keep) * losses
        self.count = count + 1
        return weights
