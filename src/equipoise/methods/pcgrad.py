"""PCGrad: takes from each task gradient what conflicts with the others, one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.drawing import Random


class PCGrad(Random, GramianMethod):
    r"""Gradient surgery by projecting conflicting gradients.

    For each task i, over the other tasks j in random order:

    .. math:: g_i' \leftarrow g_i' - \frac{\min(\langle g_i', g_j \rangle, 0)}{\|g_j\|^2} g_j,
              \qquad d = \sum_i g_i'

    A zero gradient is passed over.

    Args:
        seed: where the orders start; None takes torch's seed.

    References:
        Yu et al., *Gradient Surgery for Multi-Task Learning*, NeurIPS 2020, arXiv:2001.06782.
    """

    card = Card(
        id="pcgrad",
        name="PCGrad",
        heads="unweighted",
        degree=0.0,
        guarantee="of two tasks, neither gets worse",
        deviations=(
            "LibMTL, nash-mtl and the official code also visit j = i; the official code always keeps "
            "one order; Pytorch-PCGrad always averages; LibMTL and SamsungLabs add a constant to the "
            "squared norm."
        ),
        libmtl="PCGrad",
        torchjd="PCGrad",
    )

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        return project(gramian, self.orders(gramian.shape[:-1])).sum(-2)

    def orders(self, shape: torch.Size) -> Tensor:
        """For each task, the others in random order; see :func:`random_orders`."""
        return random_orders(shape, self.generator)


def random_orders(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """For each of K tasks the other tasks in random order.

    Args:
        shape: ``[..., K]``.
        generator: where the draws come from.

    Returns:
        ``Tensor[..., K, K - 1]`` of task numbers on the CPU.
    """
    keys = torch.rand(*shape, shape[-1], generator=generator)
    keys.diagonal(dim1=-2, dim2=-1).fill_(2.0)
    return keys.argsort(-1)[..., :-1]


def project(gramian: Tensor, orders: Tensor) -> Tensor:
    """Each projected gradient as a combination of the task gradients.

    Args:
        gramian: ``Tensor[..., K, K]``.
        orders: ``Tensor[..., K, n]``; row i holds the tasks that task i visits, in order.

    Returns:
        ``Tensor[..., K, K]``; row i holds the weights of task i's projected gradient.
    """
    if orders.device != gramian.device:
        orders = orders.to(gramian.device)
    inner = gramian.clone()
    squares = gramian.diagonal(dim1=-2, dim2=-1)
    rows = torch.ones_like(squares).diag_embed()
    inverse = squares.reciprocal().masked_fill(squares == 0, 0.0).unsqueeze(-2).expand_as(gramian)
    for visited in orders.unsqueeze(-1).unbind(-2):
        step = -inner.gather(-1, visited).clamp_max(0.0) * inverse.gather(-1, visited)
        rows.scatter_add_(-1, visited, step)
        inner += step * gramian.gather(-2, visited.expand_as(gramian))
    return rows
