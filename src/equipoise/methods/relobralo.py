"""ReLoBRaLo: relative loss balancing with random lookback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.drawing import Random
from equipoise.methods.options import first_positive, fraction, off_zero, positive


class ReLoBRaLo(Random, LossMethod):
    r"""Progress since the last step, smoothed, with a look back to the first step now and then.

    .. math::
        w(t) = \alpha \big(\rho\, w(t-1) + (1 - \rho)\, \hat w(t; 0)\big) + (1 - \alpha)\, \hat w(t;
        t-1), \quad \hat w_k(t; t') = K \operatorname{softmax}_k\Big(\frac{L_k(t)}{\tau
        L_k(t')}\Big)

    with :math:`\rho` a coin that shows 1 with probability ``memory``. A loss of exactly 0 counts as
    1e-8, and a first loss of 0 gives way to the first above it.

    Args:
        alpha: :math:`\alpha`, how slowly the weights change, in [0, 1).
        memory: expectation of :math:`\rho`, in [0, 1]; the rest is the chance of a look back.
        temperature: :math:`\tau > 0`.
        seed: where the coins start; None takes torch's seed.

    Raises:
        ValueError: a loss is negative, or an option is out of its range.

    References:
        Bischof and Kraus, *Multi-Objective Loss Balancing for Physics-Informed Deep Learning*,
        2021, arXiv:2110.09813.
    """

    least_loss = "zero"
    state: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "first": (-1,),
        "last": (-1,),
        "smoothed": (-1,),
    }
    first: Tensor
    last: Tensor
    smoothed: Tensor

    card = Card(
        id="relobralo",
        name="ReLoBRaLo",
        heads="weighted",
        weight_sum="K",
        degree=0.0,
        defaults="alpha 0.95, memory 0.99 and temperature 1, those of a widely used public code.",
        deviations="The paper goes up to 0.999 for alpha and memory.",
    )

    def __init__(
        self,
        alpha: float = 0.95,
        memory: float = 0.99,
        temperature: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.alpha = fraction("alpha", alpha)
        self.temperature = positive("temperature", temperature)
        if not 0 <= memory <= 1:
            raise ValueError(f"option 'memory' must lie in [0, 1]; got {memory}")
        self.memory = memory

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        losses = losses.detach()
        first = first_positive(self.recall("first", losses), losses)
        last = self.recall("last", losses)
        smoothed = self.recall("smoothed", torch.ones_like(losses))
        toss = self.drawn((*losses.shape[:-1], 1), "uniform").to(losses.device)
        back = self._since(losses, first)
        kept = torch.where(toss < self.memory, smoothed, back)
        self.smoothed = self.alpha * kept + (1 - self.alpha) * self._since(losses, last)
        self.first, self.last = first, losses
        return self.smoothed

    def _since(self, losses: Tensor, then: Tensor) -> Tensor:
        return losses.shape[-1] * (off_zero(losses) / (self.temperature * off_zero(then))).softmax(
            -1
        )
