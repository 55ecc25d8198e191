"""Auto-Lambda: loss weights by the gradient of the primary tasks' validation losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import BilevelMethod, Card
from equipoise.methods.options import positive
from equipoise.methods.own_adam import OwnAdam


class AutoLambda(OwnAdam, BilevelMethod):
    r"""Learns weights that lower the validation losses of the primary tasks after a virtual step.

    .. math::
        \theta' = \theta - \eta \sum_k \lambda_k \nabla L_k(\theta), \quad
        \frac{\partial}{\partial \lambda_i} \sum_{j \in \text{primary}} L_j^\text{val}(\theta')
        = -\eta \Big\langle \nabla L_i(\theta), \sum_j \nabla L_j^\text{val}(\theta') \Big\rangle

    The weights then take one Adam step. The paper approximates the inner product by a finite difference;
    here it is computed, which is the limit of that difference.

    Args:
        lr: learning rate of the weights.
        init: first value of every weight.
        inner_rate: :math:`\eta`; the paper takes the network's learning rate.
        primary: positions of the primary tasks; None means all.

    References:
        Liu et al., *Auto-Lambda: Disentangling Dynamic Task Relationships*, TMLR 2022,
        arXiv:2202.03091.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {**OwnAdam.adam_state, "lambda_": (-1,)}
    lambda_: Tensor
    symmetric = False

    card = Card(
        id="auto_lambda",
        name="Auto-Lambda",
        equation=r"\lambda \leftarrow \lambda - \nabla_\lambda \textstyle\sum_j L_j^{val}(\theta')",
        heads="weighted",
        defaults="Weights start at 0.1, Adam with lr 1e-4, as in the authors' NYUv2 runs.",
        deviations=(
            "The official code and LibMTL take a virtual step with momentum; LibMTL has a softmax, and "
            "its five inner steps contradict its own assertion of one."
        ),
        libmtl="AutoLambda",
    )

    def __init__(
        self,
        lr: float = 1e-4,
        init: float = 0.1,
        inner_rate: float = 1e-3,
        primary: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.lr = positive("lr", lr)
        self.init = positive("init", init)
        self.inner_rate = positive("inner_rate", inner_rate)
        self.primary = None if primary is None else list(primary)

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        return self.recall("lambda_", torch.full_like(losses.detach(), self.init)).to(losses)

    def learn(self, cross: Tensor) -> None:
        """See :meth:`BilevelMethod.learn`."""
        chosen = cross if self.primary is None else cross[:, self.primary]
        gradient = -self.inner_rate * chosen.sum(-1)
        before = self.recall("lambda_", torch.full_like(gradient, self.init)).to(gradient)
        self.lambda_ = before + self.adam(gradient, self.lr)
