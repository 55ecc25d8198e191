"""DB-MTL: gradients of the log losses, averaged over the steps and brought to the largest norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, combine
from equipoise.methods.options import fraction, not_negative
from equipoise.methods.tracked import Tracked

EPSILON = 1e-8


class DBMTL(Tracked):
    r"""Dual-balancing multi-task learning.

    .. math:: \hat g_k \leftarrow \beta_t \hat g_k + (1 - \beta_t) \nabla \log L_k, \qquad
              d = \max_j \|\hat g_j\| \sum_k \frac{\hat g_k}{\|\hat g_k\|}, \qquad
              \beta_t = \beta / t^\sigma

    The average starts at 0, without correction: the first steps are short by :math:`1 - \beta_t`. With
    :math:`\beta = 0` nothing is kept. The heads get the gradients of the log losses; :math:`L_k + 10^{-8}`
    stands for the loss throughout, so that it may reach 0.

    Args:
        beta: :math:`\beta` in [0, 1).
        beta_sigma: :math:`\sigma \ge 0`, how the averaging fades out.

    Raises:
        ValueError: an option out of its range; a negative loss.

    References:
        Lin et al., *Dual-Balancing for Multi-Task Learning*, 2023, arXiv:2308.12029.
    """

    least_loss = "zero"
    averages = True
    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"average": (-2,), "count": ()}
    card = Card(
        id="db_mtl",
        name="DB-MTL",
        heads="unweighted",
        unit_free=True,
        defaults="beta = 0.9 and beta_sigma = 0, as in LibMTL; the paper tunes both per data set.",
        libmtl="DB_MTL",
    )

    def __init__(self, beta: float = 0.9, beta_sigma: float = 0.0) -> None:
        super().__init__()
        self.beta = fraction("beta", beta)
        self.beta_sigma = not_negative("beta_sigma", beta_sigma)

    average: Tensor
    count: Tensor

    def head_factors(self, losses: Tensor) -> Tensor:
        """The heads get the gradient of the log loss, as in the paper."""
        return 1 / (losses + EPSILON)

    def combine(self, jacobian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`JacobianMethod.combine`."""
        rows = jacobian / (losses.to(jacobian) + EPSILON).unsqueeze(-1)
        if self.beta:
            self.count = self.recall("count", jacobian.new_zeros(())) + 1
            beta = self.beta / self.count**self.beta_sigma
            rows = torch.lerp(rows, self.recall("average", torch.zeros_like(rows)), beta)
            self.average = rows
        norms = torch.linalg.vector_norm(rows, dim=-1)
        scales = norms.amax(-1, keepdim=True) / (norms + EPSILON)
        return combine(scales, rows)
