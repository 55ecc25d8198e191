"""MOML: loss weights by multi-objective meta learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import BilevelMethod, Card
from equipoise.methods.options import positive
from equipoise.methods.own_adam import OwnAdam
from equipoise.solvers.min_norm import min_norm


class MOML(OwnAdam, BilevelMethod):
    r"""Learns weights that lower all validation losses after a virtual step, by MGDA on meta gradients.

    .. math::
        w = \operatorname{softmax}(\alpha), \quad
        h_j = \nabla_\alpha L_j^\text{val}\big(\theta - \eta \textstyle\sum_i w_i \nabla L_i(\theta)\big)
        = -\eta \, \big(\operatorname{diag}(w) - w w^\top\big)
        \big[\langle \nabla L_i, \nabla L_j^\text{val} \rangle\big]_i

    The :math:`h_j` are combined with the min-norm weights of :math:`h_j / \|h_j\|`, and :math:`\alpha`
    takes one Adam step. The authors' NYUv2 script, unlike the one for Office that the default follows, takes
    ``lr=1e-4`` and normalised losses.

    Args:
        lr: learning rate of :math:`\alpha`.
        inner_rate: :math:`\eta`, of the virtual step.

    References:
        Ye et al., *Multi-Objective Meta Learning*, NeurIPS 2021, arXiv:2102.07121.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {**OwnAdam.adam_state, "alpha": (-1,)}
    alpha: Tensor

    card = Card(
        id="moml",
        name="MOML",
        equation=(
            r"w = \operatorname{softmax}(\alpha), \; "
            r"\alpha \leftarrow \alpha - \textstyle\sum_j \gamma_j h_j"
        ),
        heads="weighted",
        weight_sum="1",
        defaults=(
            "Adam with lr 1e-3 and one virtual step, as in the authors' code; inner rate 0.1 as in "
            "LibMTL."
        ),
        deviations=(
            "LibMTL combines the normalised meta gradients, the authors' code the raw ones, as here. "
            "LibMTL's five inner steps contradict its own assertion of one."
        ),
        libmtl="MOML",
    )

    def __init__(self, lr: float = 1e-3, inner_rate: float = 0.1) -> None:
        super().__init__()
        self.lr = positive("lr", lr)
        self.inner_rate = positive("inner_rate", inner_rate)

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        return self.recall("alpha", torch.zeros_like(losses.detach())).to(losses).softmax(-1)

    def learn(self, cross: Tensor) -> None:
        """See :meth:`BilevelMethod.learn`."""
        alpha = self.recall("alpha", torch.zeros_like(cross[0])).to(cross)
        w = alpha.softmax(-1)
        meta = -self.inner_rate * (cross.mT * w - (cross.mT @ w).unsqueeze(-1) * w)
        norms = meta.norm(dim=-1, keepdim=True)
        unit = meta / torch.where(norms > 0, norms, torch.ones_like(norms))
        gramian = unit @ unit.mT
        gamma = min_norm(gramian).accept(gramian, "moml: min-norm point of the meta gradients")
        self.alpha = alpha + self.adam(gamma @ meta, self.lr)
