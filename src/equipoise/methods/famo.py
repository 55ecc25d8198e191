"""FAMO: fast adaptive multitask optimization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, LossMethod, widened
from equipoise.methods.options import PerTask, not_negative, positive
from equipoise.methods.own_adam import OwnAdam


class FAMO(OwnAdam, LossMethod):
    r"""Decreases all log losses at about the same rate, from the losses alone.

    .. math::
        w_k = \frac{z_k / D_k}{\sum_j z_j / D_j}, \quad z = \operatorname{softmax}(\xi), \quad
        D_k = L_k - b_k + \epsilon

    After the optimiser step the same batch is evaluated again, and one Adam step moves the logits
    :math:`\xi` along the gradient :math:`z_k (\delta_k - \sum_j z_j \delta_j) + \gamma \xi_k` with
    :math:`\delta_k = \log D_k^\text{before} - \log D_k^\text{after}`. Without :meth:`after_step`
    the logits stay where they are.

    Args:
        lr: learning rate of the logits.
        gamma: :math:`\gamma`, weight decay of the logits.
        min_losses: :math:`b`, lower bounds of the losses, one number or one a task.
        eps: :math:`\epsilon`.

    Raises:
        ValueError: a loss is below its lower bound, or an option is out of its range.

    References:
        Liu et al., *FAMO: Fast Adaptive Multitask Optimization*, NeurIPS 2023, arXiv:2306.03792.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {
        **OwnAdam.adam_state,
        "logits": (-1,),
        "before": (-1,),
    }
    logits: Tensor
    before: Tensor
    awaits = "after_step()"

    card = Card(
        id="famo",
        name="FAMO",
        heads="weighted",
        weight_sum="1",
        degree=0.0,
        unit_free=True,
        defaults="lr 0.025 and gamma 0.001, as in the paper; lower bounds 0.",
        deviations=(
            "The official repository holds four defaults of gamma (1e-5 to 1e-2), and its "
            "stand-alone file clips the shared gradient to norm 1. LibMTL's second evaluation "
            "enters the logged losses and the BatchNorm statistics."
        ),
        libmtl="FAMO",
        torchjd="FAMO",
    )

    def __init__(
        self,
        lr: float = 0.025,
        gamma: float = 1e-3,
        min_losses: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        self.lr = positive("lr", lr)
        self.gamma = not_negative("gamma", gamma)
        self.min_losses = PerTask("min_losses", min_losses)
        # A loss below a bound of 0 or more has no logarithm of its gap.
        self.least_loss = "zero" if bool((self.min_losses.exact >= 0).all()) else "any"
        self.eps = not_negative("eps", eps)

    def check(self, losses: Tensor) -> None:
        """See :meth:`Method.check`: every loss has to lie above its lower bound.

        Raises:
            ValueError: one does not.
        """
        if not bool((self._gaps(losses) > 0).all()):
            raise ValueError(
                f"famo needs every loss above its lower bound, got {losses.detach().tolist()} with "
                f"bounds {self.min_losses.exact.tolist()}; set min_losses to values the losses "
                "never go below"
            )

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        gaps = self._gaps(losses)
        self.before = gaps.log()
        logits = self.recall("logits", torch.zeros_like(gaps))
        # Softmax of xi - log D: the weights without the division that overflows for tiny losses.
        return (logits - self.before).softmax(-1)

    def after_step(self, losses: Tensor) -> None:
        """One Adam step of the logits; see :meth:`Method.after_step`.

        Raises:
            RuntimeError: no step came before.
            ValueError: the losses are not those of the tasks of the step, or one is below its bound.
        """
        if not self.knows("before"):
            raise RuntimeError(
                "famo: after_step() compares the losses before and after an optimiser step; take a "
                "training step first"
            )
        if losses.shape != self.before.shape:
            raise ValueError(
                f"famo: after_step() takes the losses of {self.before.shape[-1]} tasks, those of the step "
                f"before; got {losses.shape[-1] if losses.ndim else 'a single number'}"
            )
        self.check(losses)
        delta = self.before - self._gaps(losses).log()
        logits = self.recall("logits", torch.zeros_like(delta))
        z = logits.softmax(-1)
        gradient = z * (delta - (z * delta).sum(-1, keepdim=True)) + self.gamma * logits
        self.logits = logits + self.adam(gradient, self.lr)

    def _gaps(self, losses: Tensor) -> Tensor:
        losses = widened(losses.detach())
        return losses - self.min_losses.of(self, losses) + self.eps
