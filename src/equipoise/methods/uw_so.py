"""UW-SO: soft optimal uncertainty weighting."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import choose, not_negative, off_zero, positive
from equipoise.methods.uw_o import FACTORS


class UWSO(LossMethod):
    r"""Softmax of the inverse losses, the analytic optimum of uncertainty weighting.

    .. math:: w_k = \operatorname{softmax}_k\Big(\frac{1}{\tau (\mathrm{sg}[L_k] + \epsilon)}\Big)

    The weights sum to one. They depend on the unit of the losses: rescaling every loss by ``c``
    acts as the temperature ``c * temperature``. A large temperature gives equal weights, a small
    one picks the task with the smallest loss.

    Args:
        temperature: :math:`\tau > 0`, in units of 1 / loss.
        kind: as in :class:`UWO`: multiplies the inverse loss by 1/2 for ``l2`` and
            ``cross_entropy``.
        eps: :math:`\epsilon`, keeps the inverse of a tiny loss finite. At 1e-8 a loss of exactly 0 takes
            all the weight of its step, so that the others rest; a larger one bounds its share.

    Raises:
        ValueError: a loss is negative, or an option is out of its range.

    References:
        Kirchdorfer et al., *Analytical Uncertainty-Based Loss Weighting in Multi-Task Learning*,
        GCPR 2024, arXiv:2408.07985.
    """

    least_loss = "zero"

    card = Card(
        id="uw_so",
        name="UW-SO",
        heads="weighted",
        weight_sum="1",
        defaults="Those of the first author's code; the paper tunes the temperature, so tune it.",
        deviations="The authors' later code leaves the softmax out unless asked, which is UW-O.",
    )

    def __init__(
        self,
        temperature: float = 1.0,
        kind: str | Sequence[str] = "unified",
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.factor = choose("kind", kind, FACTORS)
        self.eps = not_negative("eps", eps)

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        inverse = self.factor.of(self, losses) / off_zero(losses.detach() + self.eps)
        return (inverse / self.temperature).softmax(-1)
