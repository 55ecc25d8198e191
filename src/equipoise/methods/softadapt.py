"""SoftAdapt: weights by the last change of the losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import off_zero

Variant = Literal["original", "normalized", "loss_weighted"]


class SoftAdapt(LossMethod):
    r"""The softmax of how much each loss changed since the last step.

    .. math:: w_k = \operatorname{softmax}_k(\beta s_k), \quad s_k = L_k(t) - L_k(t-1)

    ``normalized`` divides :math:`s` by :math:`\sum_j |s_j|`; ``loss_weighted`` multiplies each term
    of the softmax by its loss (0 counts as 1e-8). The first step has :math:`s = 0`. The
    change includes the loss of this very step; DWA with ``period=1`` looks at the two steps before it.

    Args:
        beta: :math:`\beta`; positive weights the tasks that got worse, negative those that got
            better.
        variant: ``original``, ``normalized`` or ``loss_weighted``.

    Raises:
        ValueError: no such variant, or a loss is negative in the variant ``loss_weighted``.

    References:
        Heydari et al., *SoftAdapt: Techniques for Adaptive Loss Weighting of Neural Networks with
        Multi-Part Loss Functions*, 2019, arXiv:1912.12355.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"last": (-1,)}
    last: Tensor

    card = Card(
        id="softadapt",
        name="SoftAdapt",
        heads="weighted",
        weight_sum="1",
        defaults="beta 0.1 and the original variant.",
        deviations="Some codes put the ratio of the two losses into the softmax and multiply by K.",
    )

    def __init__(self, beta: float = 0.1, variant: Variant = "original") -> None:
        super().__init__()
        if variant not in get_args(Variant):
            raise ValueError(
                f"option 'variant' is one of {', '.join(get_args(Variant))}; got '{variant}'"
            )
        self.beta = beta
        self.variant: Variant = variant
        self.least_loss = "zero" if variant == "loss_weighted" else "any"

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        losses = losses.detach()
        change = losses - self.recall("last", losses)
        self.last = losses
        if self.variant == "normalized":
            size = change.abs().sum(-1, keepdim=True)
            change = change / size.where(size > 0, 1)
        logits = self.beta * change
        if self.variant == "loss_weighted":
            logits = logits + off_zero(losses).log()
        return logits.softmax(-1)
