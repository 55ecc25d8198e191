"""Weighted Tchebycheff scalarization: the worst task alone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import PerTask


class Tchebycheff(LossMethod):
    r"""Minimises the largest weighted distance to a reference point.

    .. math:: w_k = \lambda_k \, [k = \arg\max_j \lambda_j (L_j - z_j)]

    Tasks that tie for the maximum share it equally.

    Args:
        preference: :math:`\lambda`, one a task; None is 1 / K.
        reference: :math:`z`, one number or one a task.

    Raises:
        ValueError: not as many values as tasks.

    References:
        Bowman, *On the Relationship of the Tchebycheff Norm and the Efficient Frontier of
        Multiple-Criteria Objectives*, Multiple Criteria Decision Making 1976 (Springer).
    """

    card = Card(
        id="tchebycheff",
        name="Tchebycheff",
        heads="weighted",
        degree=0.0,
        guarantee="its minimisers reach every weakly Pareto optimal point",
        defaults="Preference 1 / K and reference point 0.",
        deviations="The degree 0 holds for the reference point 0. The smooth form is 'stch'.",
    )

    def __init__(
        self,
        preference: Sequence[float] | None = None,
        reference: float | Sequence[float] = 0.0,
    ) -> None:
        super().__init__()
        self.preference = None if preference is None else PerTask("preference", tuple(preference))
        self.reference = PerTask("reference", reference)

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        losses = losses.detach()
        uniform = losses.new_tensor(1 / losses.shape[-1])
        preference = self.preference.of(self, losses) if self.preference else uniform
        distance = preference * (losses - self.reference.of(self, losses))
        worst = (distance == distance.amax(-1, keepdim=True)).to(losses)
        return preference * worst / worst.sum(-1, keepdim=True)
