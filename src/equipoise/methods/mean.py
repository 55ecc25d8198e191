"""Mean: the average of the losses."""

from __future__ import annotations

from torch import Tensor

from equipoise.methods.base import Card, LossMethod


class Mean(LossMethod):
    r"""Equal weighting with weights that sum to one.

    .. math:: w_k = 1 / K

    The direction of EW with a step K times shorter: under SGD a change of learning rate.

    References:
        Lin et al., *Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task
        Learning*, TMLR 2022, arXiv:2111.10603, whose equal weighting this is.
    """

    card = Card(
        id="mean",
        name="Mean",
        heads="weighted",
        weight_sum="1",
        degree=0.0,
        deviations="Papers call both the sum and the mean equal weighting; the sum is 'ew'.",
        torchjd="Mean",
    )

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        return losses.new_full(losses.shape, 1 / losses.shape[-1])
