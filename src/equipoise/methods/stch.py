"""STCH: smooth Tchebycheff scalarization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from equipoise.methods.base import Card
from equipoise.methods.early_epoch import EarlyEpoch
from equipoise.methods.options import PerTask, off_zero, positive

Form = Literal["mtl", "generic"]


class STCH(EarlyEpoch):
    r"""A smooth maximum of the losses: the worst task counts most.

    Generic form, with a preference :math:`\lambda` and a reference point :math:`z`:

    .. math:: w_k = \lambda_k \operatorname{softmax}_k(\lambda_k (L_k - z_k) / \mu)

    Form for multi-task learning (the default), in units of the losses :math:`n_k` of an early
    epoch:

    .. math:: w_k = \frac{K}{L_k} \operatorname{softmax}_k(\log(L_k / n_k) / \mu)

    with :math:`w_k = 1 / L_k` up to that epoch. It needs epochs: :meth:`end_epoch` or ``period``. There
    a loss of exactly 0 counts as 1e-8.

    Args:
        mu: :math:`\mu > 0`; a small value comes close to the hard maximum.
        warmup_epoch: the epoch whose mean losses are :math:`n`, counted from 0.
        period: steps in an epoch; None leaves it to :meth:`end_epoch`.
        form: ``mtl`` or ``generic``.
        preference: :math:`\lambda` of the generic form, one a task; None is 1 / K.
        reference: :math:`z` of the generic form, one number or one a task.

    Raises:
        ValueError: a loss is negative in the form ``mtl``, or an option is out of its range.

    References:
        Lin et al., *Smooth Tchebycheff Scalarization for Multi-Objective Optimization*, ICML 2024,
        arXiv:2402.19078.
    """

    card = Card(
        id="stch",
        name="STCH",
        heads="weighted",
        degree=-1.0,
        unit_free=True,
        guarantee="the generic form's minimisers reach every Pareto optimal point for small mu",
        defaults="mu 1 and warm-up epoch 4, as in the official multi-task code.",
        deviations=(
            "The generic form is neither unit-free nor of degree -1. LibMTL takes the epoch from "
            "its trainer, so that a resumed run never leaves the warm-up or never has its "
            "reference; here it is part of the state. TorchJD has the generic form only."
        ),
        libmtl="STCH",
        torchjd="STCH",
    )

    def __init__(
        self,
        mu: float = 1.0,
        warmup_epoch: int = 4,
        period: int | None = None,
        form: Form = "mtl",
        preference: Sequence[float] | None = None,
        reference: float | Sequence[float] = 0.0,
    ) -> None:
        super().__init__(warmup_epoch, period)
        if form not in get_args(Form):
            raise ValueError(f"option 'form' is one of {', '.join(get_args(Form))}; got '{form}'")
        self.mu = positive("mu", mu)
        self.form: Form = form
        self.least_loss = "zero" if form == "mtl" else "any"
        self.preference = None if preference is None else PerTask("preference", tuple(preference))
        self.reference = PerTask("reference", reference)

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        losses = losses.detach()
        if self.form == "generic":
            uniform = losses.new_tensor(1 / losses.shape[-1])
            preference = self.preference.of(self, losses) if self.preference else uniform
            shifted = preference * (losses - self.reference.of(self, losses))
            return preference * self._smooth_max(shifted)
        nadir, over = self.early_mean(losses)
        losses = off_zero(losses)
        share = losses.shape[-1] * self._smooth_max((losses / nadir).log())
        return torch.where(over, share, 1.0) / losses

    def _smooth_max(self, values: Tensor) -> Tensor:
        # The largest is taken out first: it cancels, and the division by a tiny mu cannot overflow.
        return ((values - values.amax(-1, keepdim=True)) / self.mu).softmax(-1)
