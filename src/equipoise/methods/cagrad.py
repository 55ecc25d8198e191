"""CAGrad: near the mean gradient, the direction that helps the worst task most."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import not_negative
from equipoise.solvers import cagrad_dual


class CAGrad(GramianMethod):
    r"""Conflict-averse gradient descent.

    .. math:: d = \operatorname{argmax}_d \min_k \langle g_k, d \rangle
              \quad \text{s.t.} \quad \|d - g_0\| \le c \|g_0\|, \qquad g_0 = \tfrac1K \sum_k g_k

    ``c = 0`` is the mean of the gradients; as c grows, the direction becomes MGDA's. What happens to
    degenerate gradients is said in :func:`equipoise.solvers.cagrad_dual`.

    Args:
        c: radius of the ball around the mean, relative to it; not negative (the paper: below 1).
        rescale: 0 leaves d as it is, 1 divides it by ``1 + c**2``, 2 by ``1 + c``.

    Raises:
        ValueError: ``c`` is negative, or ``rescale`` none of 0, 1, 2.

    References:
        Liu et al., *Conflict-Averse Gradient Descent for Multi-task Learning*, NeurIPS 2021,
        arXiv:2110.14048.
    """

    card = Card(
        id="cagrad",
        name="CAGrad",
        heads="unweighted",
        degree=0.0,
        guarantee="converges to a minimum of the mean loss for c < 1",
        defaults="c = 0.4, the official value for NYUv2 (the class and LibMTL have 0.5); rescale 0.",
        deviations=(
            "The official code and LibMTL divide by 1 + c^2, nash-mtl multiplies by K; all solve with "
            "SciPy to a loose tolerance. TorchJD returns 0 for small gradients. Here the dual is exact."
        ),
        libmtl="CAGrad",
        torchjd="CAGrad",
    )

    def __init__(self, c: float = 0.4, rescale: Literal[0, 1, 2] = 0) -> None:
        super().__init__()
        self.c = not_negative("c", c)
        if rescale not in (0, 1, 2):
            raise ValueError(
                f"option 'rescale' is 0 (none), 1 (over 1 + c^2) or 2 (over 1 + c); got {rescale}"
            )
        self.rescale = rescale

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        added = cagrad_dual(gramian, self.c).accept(gramian, "cagrad")
        scale = (1.0, 1 + self.c**2, 1 + self.c)[self.rescale]
        weights: Tensor = (added + 1 / gramian.shape[-1]) / scale
        return weights
