"""PBI: penalty-based boundary intersection."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.linalg import vector_norm

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import PerTask, not_negative


class PBI(LossMethod):
    r"""The way along a preference direction, and a penalty for leaving it.

    .. math::
        L = d_1 + \theta d_2, \quad d_1 = n^\top (L - z), \quad d_2 = \|L - z - d_1 n\|, \quad
        w = n + \theta (L - z - d_1 n) / d_2

    with :math:`n` the preference at norm 1. A weight is negative where more of a loss brings the
    vector closer to the direction. On the direction itself :math:`w = n`.

    Args:
        theta: :math:`\theta >= 0`.
        preference: one a task; None prefers all tasks equally.
        reference: :math:`z`, the ideal losses, one number or one a task.

    Raises:
        ValueError: ``theta`` is negative, or there are not as many values as tasks.

    References:
        Zhang and Li, *MOEA/D: A Multiobjective Evolutionary Algorithm Based on Decomposition*, IEEE
        Transactions on Evolutionary Computation 2007.
    """

    card = Card(
        id="pbi",
        name="PBI",
        heads="weighted",
        degree=0.0,
        defaults="theta 5, the usual value; reference point 0.",
        deviations="TorchJD smooths d_2 by 1e-12 under the root. Degree 0 is for the reference 0.",
        torchjd="PBI",
    )

    def __init__(
        self,
        theta: float = 5.0,
        preference: Sequence[float] | None = None,
        reference: float | Sequence[float] = 0.0,
    ) -> None:
        super().__init__()
        self.theta = not_negative("theta", theta)
        self.preference = None if preference is None else PerTask("preference", tuple(preference))
        self.reference = PerTask("reference", reference)

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        losses = losses.detach()
        preference = losses.new_ones(losses.shape[-1])
        if self.preference is not None:
            preference = self.preference.of(self, losses)
        n: Tensor = preference / vector_norm(preference)
        shifted = losses - self.reference.of(self, losses)
        away = shifted - (shifted * n).sum(-1, keepdim=True) * n
        d2: Tensor = vector_norm(away, dim=-1, keepdim=True)
        return n + self.theta * away / d2.where(d2 > 0, 1)
