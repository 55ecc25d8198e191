"""ExcessMTL: weights that follow how far each task is from converged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, combine
from equipoise.methods.options import positive
from equipoise.methods.tracked import Tracked


class ExcessMTL(Tracked):
    r"""Robust multi-task learning with excess risks.

    .. math:: S_k \leftarrow S_k + g_k^2, \quad e_k = \sum_p \frac{g_{kp}^2}{\sqrt{S_{kp} + 10^{-7}}},
              \quad w_k \leftarrow K \frac{w_k \exp(\eta e_k / e_k(0))}
              {\sum_j w_j \exp(\eta e_j / e_j(0))}

    A task's first step gives its reference :math:`e_k(0)` and leaves the weights as they are (1).
    The official code and LibMTL weight the heads as well, as is done here.

    Args:
        robust_step_size: :math:`\eta > 0`.

    Raises:
        ValueError: ``robust_step_size`` is not positive.

    References:
        He et al., *Robust Multi-Task Learning with Excess Risks*, ICML 2024, arXiv:2402.02009.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "squares": (-2,),
        "reference": (-1,),
        "kept": (-1,),
    }
    tells_weights = True
    card = Card(
        id="excess_mtl",
        name="ExcessMTL",
        heads="weighted",
        weight_sum="K",
        defaults="robust_step_size = 0.01, as in the official code.",
        deviations=(
            "The paper's weights sum to 1, the official ones to K, as here. TorchJD updates on the "
            "first step already, with unscaled risks."
        ),
        libmtl="ExcessMTL",
        torchjd="ExcessMTL",
    )

    def __init__(self, robust_step_size: float = 0.01) -> None:
        super().__init__()
        self.robust_step_size = positive("robust_step_size", robust_step_size)

    squares: Tensor
    reference: Tensor
    kept: Tensor

    def combine(self, jacobian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`JacobianMethod.combine`."""
        squares = jacobian.square()
        self.squares = self.recall("squares", torch.zeros_like(jacobian)) + squares
        risk = (squares / (self.squares + 1e-7).sqrt()).sum(-1)
        weights = self.recall("kept", torch.ones_like(risk))
        before = self.reference if self.knows("reference") else None
        self.reference = self.recall("reference", risk)
        if before is not None:
            fresh = before.isnan() | (self.reference == 0)
            exponent = self.robust_step_size * (risk / self.reference).masked_fill(fresh, 0.0)
            # The largest exponent is taken out: it cancels, and exp cannot overflow.
            grown = weights * (exponent - exponent.amax(-1, keepdim=True)).exp()
            weights = grown * (weights.shape[-1] / grown.sum(-1, keepdim=True))
        self.kept = self.applied_weights = weights
        return combine(weights, jacobian)
