"""SLAW: scaled loss approximate weighting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import fraction, positive


class SLAW(LossMethod):
    r"""Divides each loss by its recent standard deviation, a stand-in for its gradient norm.

    .. math::
        w_k = \frac{K / s_k}{\sum_j 1 / s_j}, \quad
        s_k = \sqrt{\operatorname{EMA}(L_k^2) - \operatorname{EMA}(L_k)^2}

    A plain average until the decay takes over, so that no start value biases it. The weights are 1
    until every task present has shown two losses.

    Args:
        beta: decay of the averages, in [0, 1).
        floor: least value of :math:`s_k`.

    Raises:
        ValueError: an option is out of its range.

    References:
        Crawshaw and Košecká, *SLAW: Scaled Loss Approximate Weighting for Efficient Multi-Task
        Learning*, 2021, arXiv:2109.08218.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "count": (-1,),
        "mean": (-1,),
        "variance": (-1,),
    }
    count: Tensor
    mean: Tensor
    variance: Tensor

    card = Card(
        id="slaw",
        name="SLAW",
        heads="weighted",
        weight_sum="K",
        degree=0.0,
        defaults="beta 0.99 and floor 1e-5, as in the authors' code.",
        deviations=(
            "The variance is updated in the form that does not subtract two large numbers; the "
            "values are the same. Unit-free from the second step on, and above the floor."
        ),
    )

    def __init__(self, beta: float = 0.99, floor: float = 1e-5) -> None:
        super().__init__()
        self.beta = fraction("beta", beta)
        self.floor = positive("floor", floor)

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        losses = losses.detach()
        zero = torch.zeros_like(losses)
        count, mean = self.recall("count", zero), self.recall("mean", zero)
        variance = self.recall("variance", zero)
        keep = (count / (count + 1)).clamp(max=self.beta)
        step = losses - mean
        self.mean = mean + (1 - keep) * step
        self.variance = keep * (variance + (1 - keep) * step**2)
        self.count = count + 1
        inverse = 1 / self.variance.sqrt().clamp(min=self.floor)
        inverse = torch.where((self.count >= 2).all(-1, keepdim=True), inverse, 1)
        return losses.shape[-1] * inverse / inverse.sum(-1, keepdim=True)
