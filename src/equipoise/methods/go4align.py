"""GO4Align: tasks weighted by groups of similar risk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import not_negative, off_zero, positive


class GO4Align(LossMethod):
    r"""Groups the tasks by risk and gives every task the mean weight of its group.

    .. math::
        q \leftarrow \frac{q \odot e^{-\beta L}}{\sum_j q_j e^{-\beta L_j}}, \quad
        \gamma_k = q_k \frac{\sum_j L_j}{L_k}, \quad
        w_k = \operatorname{mean} \{\gamma_j : j \text{ in the group of } k\}

    The groups are the optimal one-dimensional k-means clusters of :math:`\gamma`, found exactly.
    A loss of exactly 0 counts as 1e-8.

    Args:
        num_groups: number of groups, at most K are used.
        beta: :math:`\beta \ge 0`, step size of the influence q.

    Raises:
        ValueError: a loss is negative, or an option is out of its range.

    References:
        Shen et al., *GO4Align: Group Optimization for Multi-Task Alignment*, NeurIPS 2024,
        arXiv:2404.06486.
    """

    least_loss = "zero"
    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"log_influence": (-1,)}
    log_influence: Tensor

    card = Card(
        id="go4align",
        name="GO4Align",
        heads="weighted",
        defaults="beta 1e-4; 2 groups, while the paper tunes their number for each data set.",
        deviations=(
            "The public code runs a k-means with random starts; here the clustering is exact, so "
            "the same losses always give the same groups."
        ),
    )

    def __init__(self, num_groups: int = 2, beta: float = 1e-4) -> None:
        super().__init__()
        self.num_groups = int(positive("num_groups", num_groups))
        self.beta = not_negative("beta", beta)

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        losses = off_zero(losses.detach())
        # Logarithms, so that an influence of e^-1000 is not lost for good.
        log_q = self.recall("log_influence", torch.zeros_like(losses)) - self.beta * losses
        # Centred only when all tasks are here: absent ones keep their proportion to the others.
        everyone = self._present is None
        self.log_influence = log_q - log_q.mean(-1, keepdim=True) if everyone else log_q
        raw = log_q.softmax(-1) * losses.sum(-1, keepdim=True) / losses
        return group_means(raw, self.num_groups)


def group_means(values: Tensor, groups: int) -> Tensor:
    """The mean of each value's group in the optimal one-dimensional k-means clustering.

    Optimal groups are intervals of the sorted values, so dynamic programming over their ends finds
    them: ``cost[j]`` is the least sum of squared distances of the first values up to j.

    Args:
        values: ``Tensor[..., K]``.
        groups: number of groups; no more than K are used.

    Returns:
        ``Tensor[..., K]``.
    """
    tasks = values.shape[-1]
    ordered, order = values.double().sort(dim=-1)
    index = torch.arange(tasks, device=values.device)
    # within[i, j, k]: value k belongs to the interval from i to j.
    within = (index[:, None, None] <= index) & (index <= index[:, None])
    size = within.sum(-1).clamp(min=1)
    here = ordered[..., None, None, :]
    mean = (here * within).sum(-1) / size
    spread = ((here - mean.unsqueeze(-1)) ** 2 * within).sum(-1)
    spread = spread.where(index[:, None] <= index, torch.inf)

    cost = spread[..., 0, :]
    starts = [torch.zeros_like(cost, dtype=torch.int64)]
    for _ in range(min(groups, tasks) - 1):
        # A last interval from i to j costs spread[i, j] on top of the best split of the first i
        # values.
        before = torch.cat([torch.full_like(cost[..., :1], torch.inf), cost[..., :-1]], -1)
        cost, start = (before.unsqueeze(-1) + spread).min(-2)
        starts.append(start)

    end = torch.full_like(starts[0][..., :1], tasks - 1)
    means = torch.empty_like(ordered)
    for start in reversed(starts):
        first = start.gather(-1, end)
        inside = (index >= first) & (index <= end)
        total = (ordered * inside).sum(-1, keepdim=True)
        means = torch.where(inside, total / inside.sum(-1, keepdim=True), means)
        end = (first - 1).clamp(min=0)
    return torch.empty_like(means).scatter_(-1, order, means).to(values)
