"""MetaBalance: auxiliary gradients brought to the size of the target task's, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import fraction


class MetaBalance(GramianMethod):
    r"""Moves the norms of the auxiliary task gradients towards that of the target task.

    .. math::
        m_k \leftarrow \beta m_k + (1 - \beta) \|g_k\|, \quad
        w_k = r \frac{m_\text{target}}{m_k} + 1 - r

    The paper does this for every parameter tensor by itself, as the balancer does with this method.

    Args:
        target: position of the target task.
        relax: :math:`r`, 0 leaves the gradients alone, 1 makes all norms equal.
        beta: :math:`\beta`, share of the past in the averaged norms.

    References:
        He et al., *MetaBalance: Improving Multi-Task Recommendations via Adapting Gradient Magnitudes of
        Auxiliary Tasks*, WWW 2022, arXiv:2203.06801.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"norms": (-1,)}
    norms: Tensor
    blocks: ClassVar[Literal["model", "parameter"]] = "parameter"
    routes: ClassVar[tuple[str, ...]] = ("parameters",)
    symmetric = False

    card = Card(
        id="metabalance",
        name="MetaBalance",
        heads="unweighted",
        degree=0.0,
        defaults="r = 0.7 and beta = 0.9, the paper's best setting; the first task is the target.",
        deviations="A task whose averaged norm is zero gets weight 1 - r; the authors' code divides by it.",
    )

    def __init__(self, target: int = 0, relax: float = 0.7, beta: float = 0.9) -> None:
        super().__init__()
        if not 0 <= relax <= 1:
            raise ValueError(f"relax={relax} is not in [0, 1]")
        self.target = target
        self.relax = relax
        self.beta = fraction("beta", beta)

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        size = gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
        # The average starts at the first norms: a common start factor would cancel in the ratio.
        norms = torch.lerp(size, self.recall("norms", size), self.beta)
        self.norms = norms
        target = norms[..., self.target : self.target + 1 or None]
        ratio = torch.where(norms > 0, target / norms, torch.zeros_like(norms))
        return self.relax * ratio + 1 - self.relax
