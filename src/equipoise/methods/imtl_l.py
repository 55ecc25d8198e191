"""IMTL-L: impartial loss scaling, learned."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from equipoise.methods.base import Card
from equipoise.methods.learned import Learned
from equipoise.methods.options import PerTask


class IMTLL(Learned):
    r"""Learns the scale of each loss so that all weighted losses become equal.

    .. math:: \min_{\theta, s} \sum_k e^{s_k} L_k - s_k, \quad w_k = e^{s_k}

    At the minimum over ``s`` the weights are :math:`1 / L_k`, those of UW-O. A negative loss is
    refused: it has no minimum, ``s`` would grow for ever. So it does for a loss that stays at 0, whose
    weight grows until the balancer's ``weight_cap``.

    Args:
        init: start of ``s``, one number or one a task.

    Raises:
        ValueError: a loss is negative, or not as many values as tasks.

    References:
        Liu et al., *Towards Impartial Multi-task Learning*, ICLR 2021.
    """

    least_loss = "zero"

    card = Card(
        id="imtl_l",
        name="IMTL-L",
        heads="weighted",
        guarantee="none; the weights are 1 / L where s has converged",
        defaults="s starts at 0, as in the paper.",
        deviations="LibMTL has it inside IMTL only; other codes give s an optimiser of its own.",
        torchjd="IMTLL",
    )

    def __init__(self, init: float | Sequence[float] = 0.0) -> None:
        super().__init__(PerTask("init", init))

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        return self.learned(losses).exp().expand(losses.shape)

    def penalty(self) -> Tensor | None:
        """See :meth:`LossMethod.penalty`."""
        return None if self.s is None else -self.of_present(self.s)
