"""ConFIG: a direction at the same angle to every task gradient."""

from __future__ import annotations

from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.solvers import equal_cosines


class ConFIG(GramianMethod):
    r"""Conflict-free inverse gradients.

    .. math:: \hat d \propto U^+ 1, \qquad d = \Big( \sum_k \langle g_k, \hat d \rangle \Big) \hat d

    with U the unit gradients. Where they are dependent, :math:`\hat d` is the pseudo-inverse's
    direction; where that is 0 (two opposite gradients), so is the update.

    References:
        Liu, Chu and Thuerey, *ConFIG: Towards Conflict-free Training of Physics Informed Neural
        Networks*, ICLR 2025, arXiv:2408.11104.
    """

    card = Card(
        id="config",
        name="ConFIG",
        heads="unweighted",
        degree=0.0,
        unit_free=True,
        guarantee="the same positive cosine with every task gradient",
        deviations=(
            "The official least squares can take independent gradients for dependent ones. TorchJD "
            "needs the Jacobian."
        ),
        torchjd="ConFIG",
    )

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        b = equal_cosines(gramian).accept(gramian, "config")
        norms = gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt()
        a = b / norms.masked_fill(norms == 0, 1.0)
        gains = (gramian @ a.unsqueeze(-1)).squeeze(-1)
        square = (a * gains).sum(-1, keepdim=True)
        length = gains.sum(-1, keepdim=True) / square.masked_fill(square == 0, 1.0)
        return a * length
