"""Unit norm: every task gradient brought to one length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import fraction, off_zero

Form = Literal["unit", "inverse_norm", "ntk"]


class UnitNorm(GramianMethod):
    r"""Weights inverse to the norms of the task gradients.

    .. math:: w_k = \frac{\tfrac1K \sum_j n_j}{n_k} \quad (\text{unit}), \qquad
              w_k = \frac{\sum_j n_j}{n_k} \quad (\text{inverse\_norm, ntk})

    with :math:`n_k = \|g_k\|`, or in the ``"ntk"`` form :math:`\|\nabla \sqrt{L_k}\|^2 =
    \|g_k\|^2 / (4 L_k)`, the trace of the neural tangent kernel of a squared loss. The weights may be
    averaged over the steps. A zero gradient gets weight 1 and takes no part; in the ``"ntk"`` form a loss of
    exactly 0 counts as 1e-8.

    Args:
        form: which norm, and which common length.
        beta: in [0, 1); each step keeps this part of the last weights.

    Raises:
        ValueError: an option out of its range; a negative loss (``"ntk"``).

    References:
        Wang, Sankaran, Wang and Perdikaris, *An Expert's Guide to Training Physics-informed Neural
        Networks*, 2023, arXiv:2308.08468; for ``"ntk"`` Wang, Yu and Perdikaris, *When and Why PINNs
        Fail to Train: A Neural Tangent Kernel Perspective*, JCP 2022, arXiv:2007.14527.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"smoothed": (-1,)}
    card = Card(
        id="unit_norm",
        name="Unit norm",
        heads="weighted",
        degree=0.0,
        unit_free=True,
        defaults="Unit gradients times their mean norm, no averaging (the guide: 'inverse_norm', 0.9).",
        deviations="The guide recomputes its weights every 1000 steps: the balancer's update_every.",
    )

    def __init__(self, form: Form = "unit", beta: float = 0.0) -> None:
        super().__init__()
        if form not in get_args(Form):
            raise ValueError(f"option 'form' is one of {', '.join(get_args(Form))}; got '{form}'")
        self.form: Form = form
        self.least_loss = "zero" if form == "ntk" else "any"
        self.beta = fraction("beta", beta)

    smoothed: Tensor

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        squares = gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0.0)
        norms = squares.sqrt()
        if self.form == "ntk":
            norms = squares / (4 * off_zero(losses).to(gramian))
        zero = norms == 0
        total = norms.sum(-1, keepdim=True)
        if self.form == "unit":
            total = total / (~zero).sum(-1, keepdim=True).clamp_min(1)
        fresh = torch.where(zero, 1.0, total / norms.masked_fill(zero, 1.0))
        if not self.beta:
            return fresh
        self.smoothed = self.beta * self.recall("smoothed", fresh) + (1 - self.beta) * fresh
        return self.smoothed.clone()
