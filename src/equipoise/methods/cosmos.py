"""COSMOS: the linear scalarization with a cosine that keeps losses along a preference."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.linalg import vector_norm

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import PerTask, not_negative


class COSMOS(LossMethod):
    r"""Static weights, and a reward for a loss vector that points along them.

    .. math::
        L = r^\top L - \lambda \cos(r, L), \quad
        w_k = r_k - \lambda \Big(\frac{r_k}{\|r\| \|L\|} - \cos(r, L) \frac{L_k}{\|L\|^2}\Big)

    The paper also feeds the preference to the network; this is the scalarization alone.

    Args:
        strength: :math:`\lambda >= 0`.
        preference: :math:`r`, one a task; None is 1 / K.

    Raises:
        ValueError: ``strength`` is negative, or there are not as many preferences as tasks.

    References:
        Ruchte and Grabocka, *Scalable Pareto Front Approximation for Deep Multi-Objective
        Learning*, ICDM 2021, arXiv:2103.13392.
    """

    card = Card(
        id="cosmos",
        name="COSMOS",
        heads="weighted",
        defaults="Strength 1; the paper chooses it for each data set, from 0.01 to 8.",
        torchjd="COSMOS",
    )

    def __init__(self, strength: float = 1.0, preference: Sequence[float] | None = None) -> None:
        super().__init__()
        self.strength = not_negative("strength", strength)
        self.preference = None if preference is None else PerTask("preference", tuple(preference))

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        losses = losses.detach()
        r = losses.new_full(losses.shape[-1:], 1 / losses.shape[-1])
        if self.preference is not None:
            r = self.preference.of(self, losses)
        # A loss vector of zeros has no direction: the cosine and its gradient count as zero there.
        norm: Tensor = vector_norm(losses, dim=-1, keepdim=True)
        unit = losses / norm.where(norm > 0, 1)
        along: Tensor = r / vector_norm(r)
        cosine = (along * unit).sum(-1, keepdim=True)
        slope = (along - cosine * unit) / norm.where(norm > 0, float("inf"))
        return r - self.strength * slope
