"""ConicGrad: within an angle of the mean gradient, the direction that helps the worst task most."""

from __future__ import annotations

from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.solvers import cone_direction


class ConicGrad(GramianMethod):
    r"""The best worst-case direction in a cone around the mean of the task gradients.

    .. math:: d = \operatorname{argmax}_d \min_k \langle g_k, d \rangle
              \quad \text{s.t.} \quad \langle g_0, d \rangle \ge c \|g_0\| \|d\|, \quad
              \|d\| = \|g_0\|, \qquad g_0 = \tfrac1K \sum_k g_k

    Unlike CAGrad's ball, the cone leaves the length of the update free; here it is that of the mean
    gradient. ``c = 1`` is the mean of the gradients, and as c goes to 0 the direction becomes MGDA's.
    What happens to degenerate gradients is said in :func:`equipoise.solvers.cone_direction`.

    Args:
        c: least cosine of the update with the mean gradient, in (0, 1].

    Raises:
        ValueError: ``c`` is out of its range.

    References:
        Hassanpour et al., *Fantastic Multi-Task Gradient Updates and How to Find Them In a Cone*, 2025,
        arXiv:2502.00217.
    """

    card = Card(
        id="conicgrad",
        name="ConicGrad",
        heads="unweighted",
        degree=0.0,
        guarantee="a cosine of at least c with the mean gradient",
        defaults="c = 0.25; ours, a wide cone: the angle is to be tuned.",
        deviations=(
            "The paper takes one gradient step on the dual; here it is solved. The length, that of the "
            "mean gradient, is ours. No official code was found to compare with."
        ),
    )

    def __init__(self, c: float = 0.25) -> None:
        super().__init__()
        if not 0 < c <= 1:
            raise ValueError(
                f"option 'c' is a cosine in (0, 1], 1 for the mean gradient itself; got {c}"
            )
        self.c = c

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        return cone_direction(gramian, self.c).accept(gramian, "conicgrad")
