"""GradNorm: loss weights that bring the gradients of slow tasks forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import PerTask, first_positive, off_zero, positive

Form = Literal["paper", "softmax"]
Optimizer = Literal["sgd", "adam"]


class GradNorm(GramianMethod):
    r"""Gradient normalization.

    After every step, one optimiser step on

    .. math:: \sum_k \big| |w_k| \|g_k\| - \bar G r_k^\alpha \big|, \quad
              \bar G = \tfrac1K \sum_k |w_k| \|g_k\|, \quad
              r_k = \frac{L_k / L_k(0)}{\tfrac1K \sum_j L_j / L_j(0)}

    with the target held constant. In the ``"softmax"`` form :math:`w = K \operatorname{softmax}(s)` and s
    is moved, so the weights stay positive. The ``"paper"`` form moves the weights themselves and then
    rescales them to sum to K: as published, and not safe. Where the losses differ much in scale a weight
    soon passes 0, the network then climbs that task's loss, and where the sum passes 0 all weights change
    sign or explode (``"sgd"`` above all).

    A loss of exactly 0 counts as 1e-8, and a first loss of 0 gives way to the first above it.

    Args:
        alpha: :math:`\alpha \ge 0`, how strongly training rates are pulled together.
        lr: learning rate of the weights.
        optimizer: ``"sgd"`` or ``"adam"`` (with its usual constants).
        form: what is moved; ``"paper"`` is for comparison with published numbers.
        initial_losses: L(0), one number or one a task; None takes the losses of a task's first step.

    Raises:
        ValueError: an option out of its range; a negative loss.

    References:
        Chen et al., *GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask
        Networks*, ICML 2018, arXiv:1711.02257.
    """

    least_loss = "zero"
    state: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "moved": (-1,),
        "initial": (-1,),
        "first": (-1,),
        "second": (-1,),
        "count": (),
    }
    card = Card(
        id="gradnorm",
        name="GradNorm",
        equation=r"\min_w \sum_k \left| w_k \|g_k\| - \bar G r_k^\alpha \right|",
        heads="weighted",
        weight_sum="K",
        defaults=(
            "alpha = 1.5, the paper's value for NYUv2; Adam with learning rate 0.025; softmax, for the "
            "paper's form ascends where a weight turns negative."
        ),
        deviations=(
            "The paper takes the norms at the last shared layer, here at whatever is shared. LibMTL "
            "has the softmax form, equal weights in the first epoch and unweighted heads; "
            "gradnorm-pytorch has the opposite sign of alpha."
        ),
        libmtl="GradNorm",
    )

    def __init__(
        self,
        alpha: float = 1.5,
        lr: float = 0.025,
        optimizer: Optimizer = "adam",
        form: Form = "softmax",
        initial_losses: float | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not alpha >= 0:
            raise ValueError(f"option 'alpha' must not be below 0; got {alpha}")
        for option, value, known in (
            ("optimizer", optimizer, get_args(Optimizer)),
            ("form", form, get_args(Form)),
        ):
            if value not in known:
                raise ValueError(f"option '{option}' is one of {', '.join(known)}; got '{value}'")
        self.alpha = alpha
        self.lr = positive("lr", lr)
        self.optimizer: Optimizer = optimizer
        self.form: Form = form
        self.given = None if initial_losses is None else PerTask("initial_losses", initial_losses)

    moved: Tensor
    initial: Tensor
    first: Tensor
    second: Tensor
    count: Tensor

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        current = losses.detach().to(gramian)
        start = current if self.given is None else self.given.of(self, current).expand_as(current)
        self.initial = first_positive(self.recall("initial", start), current)
        moved = self.recall("moved", torch.ones_like(current))
        tasks = current.shape[-1]
        share = moved.softmax(-1)
        weights = moved if self.form == "paper" else tasks * share
        norms = gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt()
        scaled = weights.abs() * norms
        rate = off_zero(current) / off_zero(self.initial)
        rate = rate / rate.mean(-1, keepdim=True)
        target = scaled.mean(-1, keepdim=True) * rate**self.alpha
        slope = norms * (scaled - target).sign() * weights.sign()
        if self.form == "softmax":
            slope = tasks * share * (slope - (share * slope).sum(-1, keepdim=True))
        moved = moved - self.lr * self._step(slope)
        if self.form == "paper":
            moved = moved * (tasks / moved.sum(-1, keepdim=True))
        self.moved = moved
        return weights

    def _step(self, slope: Tensor) -> Tensor:
        if self.optimizer == "sgd":
            return slope
        zero = torch.zeros_like(slope)
        self.count = self.recall("count", slope.new_zeros(())) + 1
        self.first = self.recall("first", zero) * 0.9 + slope * 0.1
        self.second = self.recall("second", zero) * 0.999 + slope.square() * 0.001
        mean = self.first / (1 - 0.9**self.count)
        square = self.second / (1 - 0.999**self.count)
        return mean / (square.sqrt() + 1e-8)
