"""IMTL-G: the update has the same projection on every task gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.solvers import equal_cosines


class IMTLG(GramianMethod):
    r"""Impartial multi-task learning, gradient balance.

    .. math:: \Big\langle d, \frac{g_k}{\|g_k\|} \Big\rangle \text{ equal for all } k, \quad
              \sum_k w_k = 1 \quad\Longleftrightarrow\quad
              w_k \propto \frac{(C^+ 1)_k}{\|g_k\|}

    with C the cosines of the gradients. Weights may be negative. Of dependent gradients, the weights of
    least norm that give the direction are taken. Where the weights sum to 0 (the point is
    Pareto-stationary) there is no answer, and they are 0.

    References:
        Liu et al., *Towards Impartial Multi-task Learning*, ICLR 2021.
    """

    card = Card(
        id="imtl_g",
        name="IMTL-G",
        title="Towards Impartial Multi-task Learning",
        authors="Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang",
        venue="ICLR",
        year=2021,
        arxiv=None,
        equation=r"w_k \propto (C^+ 1)_k / \|g_k\|, \quad \sum_k w_k = 1",
        heads="unweighted",
        weight_sum="1",
        degree=0.0,
        unit_free=True,
        guarantee="equal projection on every task gradient; its direction ignores units",
        defaults="None to set.",
        deviations=(
            "The paper works at the shared representation (route 'features'). LibMTL inverts a matrix "
            "that may be singular; nash-mtl adds 1e-8 then; TorchJD's pseudo-inverse of the Gramian "
            "drops real directions when norms differ much."
        ),
        torchjd="IMTLG",
    )

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        b = equal_cosines(gramian).accept(gramian, "imtl_g")
        norms = gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt()
        weights = _shortest(b / norms.masked_fill(norms == 0, 1.0), gramian, norms)
        total = weights.sum(-1, keepdim=True)
        none = total.abs() <= 1e-12 * weights.abs().sum(-1, keepdim=True)
        return torch.where(none, 0.0, weights / total.masked_fill(none, 1.0))


def _shortest(weights: Tensor, gramian: Tensor, norms: Tensor) -> Tensor:
    """The weights of least norm with the same combined gradient."""
    inverse = norms.reciprocal().masked_fill(norms == 0, 0.0)
    cosine = gramian * inverse.unsqueeze(-1) * inverse.unsqueeze(-2)
    values, vectors = torch.linalg.eigh(cosine)
    tasks = gramian.shape[-1]
    null = values <= 10 * torch.finfo(gramian.dtype).eps * tasks * values[..., -1:]
    if not bool(null.any()):
        return weights
    # What leaves the combined gradient unchanged: null vectors of the cosines, in units of weights.
    relative = inverse / inverse.amax(-1, keepdim=True).clamp_min(1e-300)
    basis = (vectors * relative.unsqueeze(-1)) * null.unsqueeze(-2)
    along: Tensor = (basis @ (torch.linalg.pinv(basis) @ weights.unsqueeze(-1))).squeeze(-1)
    return weights - along
