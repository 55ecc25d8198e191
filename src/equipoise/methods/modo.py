"""MoDo: MGDA's weights, moved by products of gradients of independent batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, CrossBatchMethod
from equipoise.methods.options import not_negative, positive
from equipoise.solvers import project_simplex


class MoDo(CrossBatchMethod):
    r"""Multi-objective gradient with double sampling.

    .. math:: \lambda \leftarrow \Pi_\Delta\big(\lambda - \gamma (J_1 J_2^\top + \rho I) \lambda\big),
              \qquad d = J_3^\top \lambda

    starting from 1 / K.

    Args:
        gamma: :math:`\gamma`, step size of the weights.
        rho: :math:`\rho`, regularisation of the weights.

    Raises:
        ValueError: an option out of its range.

    References:
        Chen et al., *Three-Way Trade-Off in Multi-Objective Learning: Optimization, Generalization and
        Conflict-Avoidance*, NeurIPS 2023, arXiv:2305.20057.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"kept": (-1,)}
    card = Card(
        id="modo",
        name="MoDo",
        heads="unweighted",
        weight_sum="1",
        guarantee="converges to a Pareto-stationary point with unbiased weight steps",
        defaults="gamma = rho = 0.1, as in the official code (LibMTL: gamma = 0.001).",
        deviations="A later version of the paper takes the mean of the first two batches for d.",
        libmtl="MoDo",
        torchjd="MoDo",
    )

    def __init__(self, gamma: float = 0.1, rho: float = 0.1) -> None:
        super().__init__()
        self.gamma = positive("gamma", gamma)
        self.rho = not_negative("rho", rho)

    kept: Tensor

    def weights(self, cross_gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`CrossBatchMethod.weights`."""
        start = torch.full_like(cross_gramian[..., 0], 1 / cross_gramian.shape[-1])
        weights = self.recall("kept", start)
        slope = (cross_gramian @ weights.unsqueeze(-1)).squeeze(-1) + self.rho * weights
        self.kept = project_simplex(weights - self.gamma * slope).x
        return self.kept.clone()
