"""UW-O: optimal uncertainty weighting."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import choose, not_negative, off_zero

FACTORS = {"unified": 1.0, "l1": 1.0, "l2": 0.5, "cross_entropy": 0.5}


class UWO(LossMethod):
    r"""The analytic optimum of uncertainty weighting in place of its learned variances.

    .. math:: w_k = \frac{a_k}{\mathrm{sg}[L_k] + \epsilon}

    Its gradient is that of :math:`\sum_k a_k \log L_k`, whatever the units of the losses. The value
    of the weighted loss is the constant :math:`\sum_k a_k`: monitor the raw losses.

    Args:
        kind: the loss's likelihood, for all tasks or one a task: ``l1`` (Laplace) has
            :math:`a_k = 1`, ``l2`` (Gaussian) and ``cross_entropy`` have 1/2, ``unified`` is the
            paper's one formula for all, 1.
        eps: :math:`\epsilon`, keeps the weight of a tiny loss finite; a loss of exactly 0 has at most the
            weight :math:`10^8 a_k`.

    Raises:
        ValueError: a loss is negative, or an option is out of its range.

    References:
        Kirchdorfer et al., *Analytical Uncertainty-Based Loss Weighting in Multi-Task Learning*,
        GCPR 2024, arXiv:2408.07985.
    """

    least_loss = "zero"

    card = Card(
        id="uw_o",
        name="UW-O",
        heads="weighted",
        degree=-1.0,
        unit_free=True,
        defaults="eps 1e-8 as in the first author's code; the paper has none.",
        deviations="The authors' code has the factor 1 throughout.",
    )

    def __init__(self, kind: str | Sequence[str] = "unified", eps: float = 1e-8) -> None:
        super().__init__()
        self.factor = choose("kind", kind, FACTORS)
        self.eps = not_negative("eps", eps)

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        return self.factor.of(self, losses) / off_zero(losses.detach() + self.eps)
