"""FORUM: a first-order multi-gradient method for bilevel loss weighting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import BilevelMethod, Card
from equipoise.methods.options import positive
from equipoise.methods.own_adam import OwnAdam
from equipoise.solvers.bounded_descent import bounded_descent


class FORUM(OwnAdam, BilevelMethod):
    r"""Descends on all outer losses while the inner problem's optimality gap shrinks.

    With the inner objective :math:`f(\alpha, \theta) = \sum_k \operatorname{softmax}(\alpha)_k L_k(\theta)`
    and :math:`\hat\theta` a few steps of its descent, the gap is
    :math:`q = f(\alpha, \theta) - f(\alpha, \hat\theta)`. Network and weights move together along

    .. math::
        d = \sum_j \lambda_j \frac{\nabla L_j^\text{out}}{\|\nabla L_j^\text{out}\|} + \nu \nabla q,
        \quad \nu = \max\Big(\varphi - \frac{\langle \nabla q, \sum_j \lambda_j \nabla F_j \rangle}
        {\|\nabla q\|^2}, 0\Big)

    where :math:`\lambda` on the simplex minimises the dual
    :math:`\tfrac12 \|d\|^2 - \nu \varphi \|\nabla q\|^2` and is averaged over time with the rate
    :math:`(t + 1)^{-3/4}`.

    Args:
        phi: :math:`\varphi`, how fast the gap has to shrink.
        lr: learning rate of :math:`\alpha`.
        inner_rate: learning rate of the steps to :math:`\hat\theta`.
        inner_steps: their number.

    References:
        Ye et al., *A First-Order Multi-Gradient Algorithm for Multi-Objective Bi-Level Optimization*,
        ECAI 2024, arXiv:2401.09257.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {
        **OwnAdam.adam_state,
        "alpha": (-1,),
        "average": (-1,),
        "steps": (),
    }
    alpha: Tensor
    average: Tensor
    steps: Tensor

    card = Card(
        id="forum",
        name="FORUM",
        heads="weighted",
        weight_sum="1",
        defaults="phi 0.1, five inner steps at rate 0.1, Adam with lr 1e-3 for the weights, as in LibMTL.",
        deviations=(
            "LibMTL, by the same group, drops the factor 1/2 of the dual, which leaves the same answer, and "
            "averages lambda by epochs; here the average runs over steps, as in the paper's algorithm."
        ),
        libmtl="FORUM",
    )

    def __init__(
        self,
        phi: float = 0.1,
        lr: float = 1e-3,
        inner_rate: float = 0.1,
        inner_steps: int = 5,
    ) -> None:
        super().__init__()
        self.phi = positive("phi", phi)
        self.lr = positive("lr", lr)
        self.inner_rate = positive("inner_rate", inner_rate)
        self.inner_steps = int(positive("inner_steps", inner_steps))

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        return self.recall("alpha", torch.zeros_like(losses.detach())).to(losses).softmax(-1)

    def mix(self, gramian: Tensor, gap: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
        r"""The coefficients :math:`\lambda` and :math:`\nu`; the average advances.

        Args:
            gramian: ``Tensor[K, K]`` of the normalised outer gradients.
            gap: ``Tensor[K]``, their inner products with :math:`\nabla q`.
            square: squared norm of :math:`\nabla q`, a scalar.
        """
        best = bounded_descent(gramian, gap, square, self.phi).accept(gramian, "forum: dual")
        steps = self.recall("steps", torch.zeros_like(square))
        average = self.recall("average", torch.zeros_like(best))
        self.average = average + (best - average) / (steps + 1) ** 0.75
        self.steps = steps + 1
        nu = (self.phi - gap @ self.average / square.clamp_min(1e-300)).clamp_min(0)
        return self.average, nu

    def move(self, difference: Tensor, nu: Tensor) -> None:
        r"""Steps :math:`\alpha` along its part of the direction.

        Args:
            difference: ``Tensor[K]``, inner losses before minus after the virtual steps.
            nu: coefficient of :math:`\nabla q`.
        """
        alpha = self.recall("alpha", torch.zeros_like(difference)).to(difference)
        w = alpha.softmax(-1)
        gradient = nu * (w * difference - w * (w @ difference))
        self.alpha = alpha + self.adam(gradient, self.lr)
