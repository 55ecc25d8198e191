"""FairGrad: an alpha-fair share of the improvement for every task."""

from __future__ import annotations

from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import positive
from equipoise.solvers import bargaining


class FairGrad(GramianMethod):
    r"""Fair resource allocation among tasks.

    .. math:: (G w)_k = w_k^{-1/\alpha}, \quad w > 0

    :math:`\alpha = 1` is Nash-MTL. Towards 0 the weights become 1, or DualProj's of preference 1 where
    the sum of the gradients conflicts with one; towards infinity the worst task alone counts. A zero
    gradient and a Pareto-stationary point are treated as :func:`equipoise.solvers.bargaining` says.

    Args:
        alpha: :math:`\alpha > 0`. The weights scale with the Gramian to the power
            :math:`-\alpha / (1 + \alpha)`.

    Raises:
        ValueError: ``alpha`` is not positive.
        SolverError: ``alpha`` is so large that weights underflow (above 20, with gradients of very
            different norms).

    References:
        Ban and Ji, *Fair Resource Allocation in Multi-Task Learning*, ICML 2024, arXiv:2402.15638.
    """

    card = Card(
        id="fairgrad",
        name="FairGrad",
        heads="unweighted",
        guarantee="every task improves; converges to a Pareto-stationary point",
        defaults="alpha = 2, as in all scripts of the official code (its class has 1, LibMTL too).",
        deviations=(
            "The official code multiplies by K, clips the shared gradient at 1 and solves with an "
            "absolute tolerance, which leaves small gradients unsolved. LibMTL weights the heads."
        ),
        libmtl="FairGrad",
        torchjd="FairGrad",
    )

    def __init__(self, alpha: float = 2.0) -> None:
        super().__init__()
        self.alpha = positive("alpha", alpha)

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        return bargaining(gramian, 1 / self.alpha).accept(gramian, "fairgrad")
