"""GLS: the geometric mean of the losses."""

from __future__ import annotations

from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import off_zero


class GLS(LossMethod):
    r"""The K-th root of the product of the losses.

    .. math::
        L = \Big(\prod_j L_j\Big)^{1/K}, \quad w_k = \partial L / \partial L_k = \frac{L}{K L_k}

    The sum of weights times losses is the geometric mean itself. Worked out in logarithms: the
    plain product of many small losses underflows. A loss of exactly 0 counts as 1e-8; the mean is
    smallest there, so that the other tasks all but rest.

    Raises:
        ValueError: a loss is negative.

    References:
        Chennupati et al., *MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy
        for Multi-Task Learning*, CVPR Workshops 2019, arXiv:1904.08492.
    """

    least_loss = "zero"

    card = Card(
        id="gls",
        name="GLS",
        heads="weighted",
        degree=0.0,
        unit_free=True,
        deviations="LibMTL multiplies raw losses, which underflows; its weights are no derivative.",
        libmtl="GLS",
        torchjd="GeometricMean",
    )

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        logs = off_zero(losses.detach()).log()
        return (logs.mean(-1, keepdim=True) - logs).exp() / losses.shape[-1]
