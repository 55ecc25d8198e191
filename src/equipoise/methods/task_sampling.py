"""Task sampling: fixed weights as chances that a task is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.drawing import Random
from equipoise.methods.options import PerTask


class TaskSampling(Random, LossMethod):
    r"""Scalarization by sampling: every step trains tasks that are drawn with given chances.

    .. math:: w_k = \frac{n_k}{n} \sum_j \lambda_j, \quad
        (n_1, \ldots, n_K) \sim \text{Multinomial}(n, \lambda / \textstyle\sum_j \lambda_j)

    The expected gradient is that of fixed weights :math:`\lambda`; its noise is that of a batch in which n
    examples are shared out among the tasks at random. Where tasks have examples of their own,
    :class:`equipoise.data.TaskSampler` draws whole batches instead, and forwards nothing in vain.

    Args:
        weights: :math:`\lambda`, positive, one a task; None gives every task the same chance.
        draws: n; 1 trains one task a step.
        seed: where the draws start; None takes torch's seed.

    Raises:
        ValueError: a weight is not positive, or there are fewer draws than 1.

    References:
        Xin et al., *Do Current Multi-Task Optimization Methods in Deep Learning Even Help?*,
        NeurIPS 2022, arXiv:2209.11379 (proportional sampling of translation tasks).
    """

    card = Card(
        id="task_sampling",
        name="Task sampling",
        heads="weighted",
        degree=0.0,
        guarantee="the expected gradient is that of fixed weights",
        defaults="As many draws as a small batch has examples; every task with the same chance.",
        deviations="The paper shares out the examples of a batch; here tasks see the same examples.",
    )

    def __init__(
        self, weights: Sequence[float] | None = None, draws: int = 32, seed: int | None = None
    ) -> None:
        super().__init__(seed)
        if weights is not None and not all(weight > 0 for weight in weights):
            raise ValueError(f"option 'weights' must be above 0, as chances are; got {weights}")
        if draws < 1:
            raise ValueError(f"option 'draws' must be 1 or more; got {draws}")
        self.given = PerTask("weights", 1.0 if weights is None else tuple(weights))
        self.draws = draws

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        given = self.given.of(self, losses).expand(losses.shape).double()
        ends = given.cumsum(-1) / given.sum(-1, keepdim=True)
        drawn = self.drawn((*losses.shape[:-1], self.draws), "uniform").to(given.device)
        # A number in [0, 1) belongs to the first task whose end is above it.
        task = (drawn.unsqueeze(-1) >= ends.unsqueeze(-2)).sum(-1).clamp_max(losses.shape[-1] - 1)
        every = torch.arange(losses.shape[-1], device=task.device)
        counts = (task.unsqueeze(-1) == every).sum(-2)
        return (given.sum(-1, keepdim=True) * counts / self.draws).to(losses)
