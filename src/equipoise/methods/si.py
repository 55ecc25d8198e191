"""SI: scale-invariant sum of log losses."""

from __future__ import annotations

from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import off_zero


class SI(LossMethod):
    r"""The gradient of the sum of the logarithms of the losses.

    .. math:: w_k = \frac{\partial}{\partial L_k} \sum_j \log L_j = 1 / L_k

    A loss of exactly 0 counts as 1e-8.

    Raises:
        ValueError: a loss is negative.

    References:
        Navon et al., *Multi-Task Learning as a Bargaining Game*, ICML 2022, arXiv:2202.01017, where
        it is a baseline.
    """

    least_loss = "zero"

    card = Card(
        id="si",
        name="SI",
        heads="weighted",
        degree=-1.0,
        unit_free=True,
        deviations="The weighted loss here has the value K, not the sum of the logarithms.",
    )

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        return 1 / off_zero(losses.detach())
