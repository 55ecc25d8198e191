"""IMTL: the two halves of impartial multi-task learning together."""

from __future__ import annotations

from torch import Tensor

from equipoise.methods.base import Card
from equipoise.methods.imtl_g import IMTLG
from equipoise.methods.options import off_zero


class IMTL(IMTLG):
    r"""IMTL-L's scaling of the losses, then IMTL-G's balance of their gradients.

    .. math:: \hat g_k = \frac{g_k}{L_k}, \quad w_k = \frac{\hat w_k}{L_k}, \quad
              \hat w = \text{IMTL-G}(\hat g)

    IMTL-L learns :math:`e^{s_k}` by minimising :math:`e^{s_k} L_k - s_k`; here its minimiser
    :math:`1 / L_k` is taken at every step, so there is nothing to train. The direction is IMTL-G's; the
    scaling changes its length. A loss of exactly 0 counts as 1e-8.

    Raises:
        ValueError: a loss is negative.

    References:
        Liu et al., *Towards Impartial Multi-task Learning*, ICLR 2021.
    """

    least_loss = "zero"
    card = Card(
        id="imtl",
        name="IMTL",
        heads="unweighted",
        unit_free=True,
        guarantee="equal projection on every task gradient",
        deviations=(
            "The paper and LibMTL learn the scales with the network; here they are at their optimum, "
            "so the heads get the gradient of the loss divided by its value."
        ),
        libmtl="IMTL",
    )

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        scale = off_zero(losses).to(gramian)
        scaled = gramian / scale.unsqueeze(-1) / scale.unsqueeze(-2)
        return super().weights(scaled, losses) / scale

    def head_factors(self, losses: Tensor) -> Tensor:
        """The heads get the scaled loss, as in the paper."""
        return 1 / off_zero(losses)
