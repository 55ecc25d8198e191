"""UW: uncertainty weighting with learned log-variances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from equipoise.methods.base import Card
from equipoise.methods.learned import Learned
from equipoise.methods.options import PerTask, choose

Form = Literal["kendall", "revised"]
FACTORS = {"regression": 0.5, "classification": 1.0}


class UW(Learned):
    r"""Homoscedastic uncertainty: a learned log-variance :math:`s_k = \log \sigma_k^2` a task.

    .. math:: \min_{\theta, s} \sum_k a_k e^{-s_k} L_k + r(s_k)

    with :math:`a_k = 1/2` for a regression loss and 1 for a classification loss, and the
    regulariser :math:`r(s) = s / 2` (Kendall) or :math:`\log(1 + e^s)` (revised: never negative).
    The weights are :math:`w_k = a_k e^{-s_k}`; at the minimum over ``s`` (Kendall) they are
    :math:`1 / (2 L_k)`. They follow the losses only as fast as ``s`` is trained. A negative loss is
    refused: it would drive ``s`` to minus infinity. A loss that stays at 0 does so too, its weight
    grows until the balancer's ``weight_cap``.

    Args:
        kind: ``regression`` or ``classification``, for all tasks or one a task.
        init: start of ``s``, one number or one a task.
        form: ``kendall`` or ``revised``.

    Raises:
        ValueError: a loss is negative, no such kind or form, or not as many values as tasks.

    References:
        Kendall et al., *Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry
        and Semantics*, CVPR 2018, arXiv:1705.07115.
        Liebel and Körner, *Auxiliary Tasks in Multi-task Learning*, 2018, arXiv:1805.06334
        (revised).
    """

    least_loss = "zero"

    card = Card(
        id="uw",
        name="UW",
        equation=r"w_k = a_k e^{-s_k}, \quad \min_s \textstyle\sum_k a_k e^{-s_k} L_k + s_k / 2",
        heads="weighted",
        guarantee="none; the weights are 1 / (2 L) where s has converged",
        defaults="s starts at 0 (sigma = 1) and every loss counts as a regression loss.",
        deviations=(
            "LibMTL starts s at -0.5 and lets weight decay act on it. Codes that write L / (2 exp(s)) "
            "overflow for large s."
        ),
        libmtl="UW",
        torchjd="UW",
    )

    def __init__(
        self,
        kind: str | Sequence[str] = "regression",
        init: float | Sequence[float] = 0.0,
        form: Form = "kendall",
    ) -> None:
        super().__init__(PerTask("init", init))
        if form not in get_args(Form):
            raise ValueError(f"option 'form' is one of {', '.join(get_args(Form))}; got '{form}'")
        self.factor = choose("kind", kind, FACTORS)
        self.form: Form = form

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        s = self.learned(losses)
        return (self.factor.of(self, losses) * (-s).exp()).expand(losses.shape)

    def penalty(self) -> Tensor | None:
        """See :meth:`LossMethod.penalty`."""
        if self.s is None:
            return None
        s = self.of_present(self.s)
        return s / 2 if self.form == "kendall" else nn.functional.softplus(s)
