"""MGDA: the shortest convex combination of the task gradients."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import off_zero
from equipoise.solvers import min_norm

Normalization = Literal["none", "l2", "loss", "loss_plus"]


class MGDA(GramianMethod):
    r"""The multiple-gradient descent algorithm: the min-norm point of the gradients' convex hull.

    .. math:: w = \operatorname{argmin}_{w \ge 0,\ \sum_k w_k = 1}
              \Big\| \sum_k w_k \frac{g_k}{n_k} \Big\|^2

    with :math:`n_k` = 1 (``"none"``), :math:`\|g_k\|` (``"l2"``), :math:`L_k` (``"loss"``) or
    :math:`L_k \|g_k\|` (``"loss_plus"``). The weights are applied to the gradients as they are. A zero
    gradient counts as normalised; it takes all the weight, shared with other zero gradients: the point
    is Pareto-stationary, and the update 0.

    Args:
        normalization: what the gradients are divided by before the weights are found.

    Raises:
        ValueError: no such normalisation; a negative loss where losses divide (0 counts as 1e-8).

    References:
        Sener and Koltun, *Multi-Task Learning as Multi-Objective Optimization*, NeurIPS 2018,
        arXiv:1810.04650; the algorithm is that of Desideri, *Multiple-gradient descent algorithm (MGDA) for
        multiobjective optimization*, Comptes Rendus Mathematique 2012.
    """

    card = Card(
        id="mgda",
        name="MGDA",
        heads="unweighted",
        weight_sum="1",
        degree=0.0,
        guarantee="no task gets worse: <g_k, d> >= |d|^2; d = 0 only where Pareto-stationary",
        defaults="No normalisation, as in the paper; public code often uses 'loss_plus'.",
        deviations=(
            "The official code and LibMTL clamp two-task weights to [0.001, 0.999] and stop early, TorchJD "
            "after 100 steps; LibMTL weights the normalised gradients; nash-mtl multiplies by K. The "
            "authors weight the heads too (heads='weighted')."
        ),
        libmtl="MGDA",
        torchjd="MGDA",
    )

    def __init__(self, normalization: Normalization = "none") -> None:
        super().__init__()
        if normalization not in get_args(Normalization):
            raise ValueError(
                f"option 'normalization' is one of {', '.join(get_args(Normalization))}; "
                f"got '{normalization}'"
            )
        self.normalization: Normalization = normalization
        self.least_loss = "zero" if normalization in ("loss", "loss_plus") else "any"

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        scaled = gramian
        if self.normalization in ("l2", "loss_plus"):
            norms = gramian.diagonal(dim1=-2, dim2=-1).sqrt()
            scaled = _divided(scaled, norms.masked_fill(norms == 0, 1.0))
        if self.normalization in ("loss", "loss_plus"):
            scaled = _divided(scaled, off_zero(losses).to(gramian))
        return min_norm(scaled).accept(gramian, "mgda")


def _divided(gramian: Tensor, by: Tensor) -> Tensor:
    return gramian / by.unsqueeze(-1) / by.unsqueeze(-2)
