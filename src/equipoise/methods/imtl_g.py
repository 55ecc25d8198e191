"""IMTL-G: the update has the same projection on every task gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.solvers import equal_projections


class IMTLG(GramianMethod):
    r"""Impartial multi-task learning, gradient balance.

    .. math:: \Big\langle d, \frac{g_k}{\|g_k\|} \Big\rangle \text{ equal for all } k, \quad
              \sum_k w_k = 1 \quad\Longleftrightarrow\quad
              w_k \propto \frac{(C^{-1} 1)_k}{\|g_k\|}

    with C the cosines of the gradients. Weights may be negative. Where the gradients are dependent,
    :math:`w \propto G^+ n` with n their norms; where the weights then sum to 0 there is no answer, and
    they are 0.

    References:
        Liu et al., *Towards Impartial Multi-task Learning*, ICLR 2021.
    """

    card = Card(
        id="imtl_g",
        name="IMTL-G",
        heads="unweighted",
        weight_sum="1",
        degree=0.0,
        unit_free=True,
        guarantee="equal projection on every task gradient; its direction ignores units",
        deviations=(
            "The paper works at the features (route 'features'). LibMTL inverts a matrix that may be "
            "singular, nash-mtl adds 1e-8; TorchJD drops real directions when norms differ much."
        ),
        torchjd="IMTLG",
    )

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        weights = equal_projections(gramian).accept(gramian, "imtl_g")
        total = weights.sum(-1, keepdim=True)
        none = total.abs() <= 1e-12 * weights.abs().sum(-1, keepdim=True)
        return torch.where(none, 0.0, weights / total.masked_fill(none, 1.0))
