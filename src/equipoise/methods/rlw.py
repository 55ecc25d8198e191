"""RLW: random loss weighting."""

from __future__ import annotations

from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.random_weights import RandomWeights


class RLW(RandomWeights, LossMethod):
    r"""Loss weights that are drawn anew at every step; the litmus test for any other method.

    .. math:: w = f(\tilde\lambda), \quad \tilde\lambda \sim p, \quad \mathbb{E}[w_k] = 1 / K

    The expectation does not hold for ``random_normal``, whose means differ by task for the whole run.

    Args:
        distribution: :math:`p`; see :class:`RandomWeights`.
        seed: where the draws start; None takes torch's seed.

    Raises:
        ValueError: no such distribution.

    References:
        Lin et al., *Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task
        Learning*, TMLR 2022, arXiv:2111.10603.
    """

    card = Card(
        id="rlw",
        name="RLW",
        heads="weighted",
        weight_sum="1",
        degree=0.0,
        guarantee="the expected gradient is that of equal weighting over K (not for random_normal)",
        defaults="Normal draws and softmax, the paper's default.",
        deviations=(
            "LibMTL has normal draws only, some codes multiply by K. 'random_normal' is in the authors' "
            "earlier code, not in the paper."
        ),
        libmtl="RLW",
        torchjd="Random",
    )

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        return self.draw_weights(losses)
