"""GradVac: task gradients pulled towards the cosines they usually have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.drawing import Random
from equipoise.methods.pcgrad import random_orders


class GradVac(Random, GramianMethod):
    r"""Gradient vaccine.

    For each task i, over the other tasks j in random order, with :math:`\varphi = \cos(g_i', g_j)`: where
    :math:`\varphi < \hat\varphi_{ij}`,

    .. math:: g_i' \leftarrow g_i' + \frac{\|g_i'\| \big(\hat\varphi_{ij} \sqrt{1 - \varphi^2} -
              \varphi \sqrt{1 - \hat\varphi_{ij}^2}\big)}{\|g_j\| \sqrt{1 - \hat\varphi_{ij}^2}} g_j

    and always :math:`\hat\varphi_{ij} \leftarrow (1 - \beta) \hat\varphi_{ij} + \beta \varphi`, starting
    at 0. The update is :math:`\sum_i g_i'`. With :math:`\hat\varphi = 0` it is PCGrad's. A zero gradient
    has the cosine 0 with all others. Other codes add 1e-8 to both denominators, which changes cosines and
    steps as soon as the product of two norms is near 1e-4; here nothing is added, and units do not matter.

    Args:
        beta: in [0, 1]; 0 keeps the targets at 0.
        seed: where the orders start; None takes torch's seed.

    Raises:
        ValueError: ``beta`` outside [0, 1].

    References:
        Wang, Tsvetkov, Firat and Cao, *Gradient Vaccine: Investigating and Improving Multi-task
        Optimization in Massively Multilingual Models*, ICLR 2021, arXiv:2010.05874.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"phi": (-2, -1)}
    card = Card(
        id="gradvac",
        name="GradVac",
        heads="unweighted",
        degree=0.0,
        defaults="beta = 0.01, as in the paper (LibMTL and TorchJD: 0.5).",
        deviations=(
            "The paper keeps a target for every layer, here there is one for the whole model, as in "
            "LibMTL and TorchJD by default. SamsungLabs moves the targets only where it corrects."
        ),
        libmtl="GradVac",
        torchjd="GradVac",
    )

    def __init__(self, beta: float = 0.01, seed: int | None = None) -> None:
        super().__init__(seed)
        if not 0 <= beta <= 1:
            raise ValueError(f"option 'beta' must lie in [0, 1]; got {beta}")
        self.beta = beta

    phi: Tensor

    def orders(self, shape: torch.Size) -> Tensor:
        """For each task, the others in random order; see :func:`random_orders`."""
        return random_orders(shape, self.generator)

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        phi = self.recall("phi", torch.zeros_like(gramian))
        rows, self.phi = vaccinate(gramian, self.orders(gramian.shape[:-1]), phi, self.beta)
        return rows.sum(-2)


def vaccinate(gramian: Tensor, orders: Tensor, phi: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    r"""Each corrected gradient as a combination of the task gradients, and the new targets.

    Args:
        gramian: ``Tensor[..., K, K]``.
        orders: ``Tensor[..., K, n]``; row i holds the tasks that task i visits, in order.
        phi: :math:`\hat\varphi`, ``Tensor[..., K, K]``.
        beta: how fast the targets move.

    Returns:
        Weights ``Tensor[..., K, K]``, row i those of task i's gradient; targets ``Tensor[..., K, K]``.
    """
    tasks = gramian.shape[-1]
    orders = orders.to(gramian.device)
    rows = torch.eye(tasks, dtype=gramian.dtype, device=gramian.device).expand_as(gramian).clone()
    inner, phi = gramian.clone(), phi.clone()
    norms = gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt()
    lengths = norms.unsqueeze(-2).expand_as(gramian)
    for visited in orders.unsqueeze(-1).unbind(-2):
        own = (rows * inner).sum(-1, keepdim=True).clamp_min(0.0).sqrt()
        other = lengths.gather(-1, visited)
        product = own * other
        cosine = (inner.gather(-1, visited) / product).masked_fill(product == 0, 0.0).clamp(-1, 1)
        target = phi.gather(-1, visited)
        rest = (1 - target.square()).clamp_min(0.0).sqrt()
        wanted = target * (1 - cosine.square()).clamp_min(0.0).sqrt() - cosine * rest
        reach = other * rest
        step = (own * wanted / reach).masked_fill((cosine >= target) | (reach == 0), 0.0)
        rows.scatter_add_(-1, visited, step)
        inner += step * gramian.gather(-2, visited.expand_as(gramian))
        phi.scatter_(-1, visited, (1 - beta) * target + beta * cosine)
    return rows, phi
