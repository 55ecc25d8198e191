"""EW: equal weighting, the plain sum of the losses."""

from torch import Tensor

from equipoise.methods.base import Card, LossMethod


class EW(LossMethod):
    r"""Equal weighting (unitary scalarization), the baseline of every comparison.

    .. math:: w_k = 1

    References:
        Kurin et al., *In Defense of the Unitary Scalarization for Deep Multi-Task Learning*,
        NeurIPS 2022, arXiv:2201.04122.
    """

    card = Card(
        id="ew",
        name="EW",
        heads="weighted",
        weight_sum="K",
        degree=0.0,
        deviations="LibMTL documents 1/K and uses 1, as here.",
        libmtl="EW",
        torchjd="Sum",
    )

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        return losses.new_ones(losses.shape)
