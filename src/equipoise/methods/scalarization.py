"""Scalarization: fixed loss weights, found by a search outside."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import PerTask


class Scalarization(LossMethod):
    r"""Static weights, the strong baseline of every fair comparison once they are tuned.

    .. math:: w_k = \lambda_k

    With non-negative weights every minimiser is Pareto optimal.

    Args:
        weights: :math:`\lambda`, one a task; None weights every task with 1.

    Raises:
        ValueError: not as many weights as tasks, or a weight that is not finite.

    References:
        Xin et al., *Do Current Multi-Task Optimization Methods in Deep Learning Even Help?*,
        NeurIPS 2022, arXiv:2209.11379.
    """

    card = Card(
        id="scalarization",
        name="Scalarization",
        heads="weighted",
        degree=0.0,
        guarantee="minimisers are Pareto optimal for positive weights",
        defaults="Weights 1; the paper searches weights that are positive and sum to 1.",
        deviations="The paper weights translation tasks by sampling, not by the loss.",
        torchjd="Constant",
    )

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.given = PerTask("weights", 1.0 if weights is None else tuple(weights))

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        return self.given.of(self, losses).expand(losses.shape).clone()
