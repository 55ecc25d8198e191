"""Nash-MTL: the update on which the tasks would agree in a bargain."""

from __future__ import annotations

from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import positive
from equipoise.solvers import bargaining


class NashMTL(GramianMethod):
    r"""The Nash bargaining solution among the task gradients.

    .. math:: G w = 1 / w, \quad w > 0

    Then :math:`\|d\|^2 = K` whatever the size of the gradients, so the losses' scale has no influence
    on the update. A zero gradient and a Pareto-stationary point, where the paper has no answer, are
    treated as :func:`equipoise.solvers.bargaining` says.

    Args:
        max_norm: largest norm of the update; None leaves its norm at the square root of K. It scales
            the weights, hence the heads too if they are weighted. With the balancer's ``update_every`` it
            holds where weights are found: the steps between reuse them without clipping.

    Raises:
        ValueError: ``max_norm`` is not positive.

    References:
        Navon et al., *Multi-Task Learning as a Bargaining Game*, ICML 2022, arXiv:2202.01017.
    """

    card = Card(
        id="nash_mtl",
        name="Nash-MTL",
        heads="weighted",
        degree=-0.5,
        unit_free=True,
        guarantee="every task improves; converges to a Pareto-stationary point",
        defaults="max_norm = None, as in the paper; public code clips the shared gradient at 1.",
        deviations=(
            "Public code takes up to 20 convex programmes, stops on a test that mixes two scales, and "
            "keeps equal weights where its solver fails. For weights less often: update_every."
        ),
        libmtl="Nash_MTL",
        torchjd="NashMTL",
    )

    def __init__(self, max_norm: float | None = None) -> None:
        super().__init__()
        self.max_norm = None if max_norm is None else positive("max_norm", max_norm)

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        weights = bargaining(gramian).accept(gramian, "nash_mtl")
        if self.max_norm is None:
            return weights
        row = weights.unsqueeze(-2)
        norm = (row @ gramian @ row.mT).squeeze(-1).clamp_min(0.0).sqrt()
        clipped: Tensor = weights * (self.max_norm / norm.clamp_min(self.max_norm))
        return clipped
