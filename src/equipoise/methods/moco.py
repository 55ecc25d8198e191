"""MoCo: MGDA's weights, followed slowly on gradients averaged over the steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from equipoise.methods.base import Card, combine
from equipoise.methods.options import not_negative, positive
from equipoise.methods.tracked import Tracked
from equipoise.solvers import project_simplex


class MoCo(Tracked):
    r"""Multi-objective gradient correction.

    .. math:: Y \leftarrow Y + \beta_t (J - Y), \quad
              \lambda \leftarrow \Pi_\Delta\big(\lambda - \gamma_t (Y Y^\top + \rho I) \lambda\big),
              \quad d = Y^\top \lambda

    with :math:`\beta_t = \beta / t^{\sigma_\beta}` and :math:`\gamma_t` alike; Y starts at 0,
    :math:`\lambda` at 1 / K.

    Args:
        beta: how fast Y follows the gradients.
        beta_sigma: how that fades.
        gamma: step size of the weights.
        gamma_sigma: how that fades.
        rho: regularisation of the weights.
        onto_simplex: the projection of the paper, or ``"softmax"`` of the moved weights (LibMTL's; its
            weights contract towards 1 / K).
        normalized: first turn each gradient into its direction times its loss (LibMTL's; not in the
            paper).

    Raises:
        ValueError: an option out of its range.

    References:
        Fernando et al., *Mitigating Gradient Bias in Multi-objective Learning: A Provably Convergent
        Approach*, ICLR 2023.
    """

    averages = True
    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"average": (-2,), "kept": (-1,), "count": ()}
    card = Card(
        id="moco",
        name="MoCo",
        heads="unweighted",
        weight_sum="1",
        guarantee="converges to a Pareto-stationary point with mini-batch gradients",
        defaults="beta = gamma = rho = 0.1, constant, as in the official code.",
        deviations="LibMTL's softmax of the weights at every step makes them almost equal.",
        libmtl="MoCo",
    )

    def __init__(
        self,
        beta: float = 0.1,
        beta_sigma: float = 0.0,
        gamma: float = 0.1,
        gamma_sigma: float = 0.0,
        rho: float = 0.1,
        onto_simplex: Literal["projection", "softmax"] = "projection",
        normalized: bool = False,
    ) -> None:
        super().__init__()
        self.beta = positive("beta", beta)
        self.beta_sigma = not_negative("beta_sigma", beta_sigma)
        self.gamma = positive("gamma", gamma)
        self.gamma_sigma = not_negative("gamma_sigma", gamma_sigma)
        self.rho = not_negative("rho", rho)
        if onto_simplex not in ("projection", "softmax"):
            raise ValueError(
                f"option 'onto_simplex' is 'projection' or 'softmax'; got '{onto_simplex}'"
            )
        self.onto_simplex = onto_simplex
        self.normalized = normalized

    average: Tensor
    kept: Tensor
    count: Tensor

    def combine(self, jacobian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`JacobianMethod.combine`."""
        if self.normalized:
            norms = torch.linalg.vector_norm(jacobian, dim=-1)
            jacobian = jacobian * (losses.to(jacobian) / (norms + 1e-8)).unsqueeze(-1)
        self.count = self.recall("count", jacobian.new_zeros(())) + 1
        beta = self.beta / self.count**self.beta_sigma
        gamma = self.gamma / self.count**self.gamma_sigma
        self.average = rows = torch.lerp(
            self.recall("average", torch.zeros_like(jacobian)), jacobian, beta
        )
        tasks = jacobian.shape[-2]
        weights = self.recall("kept", torch.full_like(jacobian[..., 0], 1 / tasks))
        slope = ((rows @ rows.mT) @ weights.unsqueeze(-1)).squeeze(-1) + self.rho * weights
        moved = weights - gamma * slope
        self.kept = (
            moved.softmax(-1) if self.onto_simplex == "softmax" else project_simplex(moved).x
        )
        return combine(self.kept, rows)
