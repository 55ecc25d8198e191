"""RGW: random gradient weighting."""

from __future__ import annotations

from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.random_weights import RandomWeights


class RGW(RandomWeights, GramianMethod):
    r"""Random weights on the task gradients; the heads keep their own gradients.

    .. math:: d = \sum_k w_k g_k, \quad w = f(\tilde\lambda), \quad \tilde\lambda \sim p

    The expected weights are 1 / K, but for ``random_normal``, whose means differ by task for the whole run.

    Args:
        distribution: :math:`p`; see :class:`RandomWeights`.
        seed: where the draws start; None takes torch's seed.

    Raises:
        ValueError: no such distribution.

    References:
        Lin et al., *Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task
        Learning*, TMLR 2022, arXiv:2111.10603.
    """

    reads_gramian = False

    card = Card(
        id="rgw",
        name="RGW",
        heads="unweighted",
        weight_sum="1",
        degree=0.0,
        guarantee="the expected gradient is that of equal weighting over K (not for random_normal)",
        defaults="Normal draws and softmax, the paper's default.",
        deviations="The paper weights gradients at the features (route 'features').",
        torchjd="Random",
    )

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        return self.draw_weights(losses)
