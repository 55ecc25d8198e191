"""A task without a gradient leaves the answer of the other tasks as it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import equipoise
from equipoise.methods.base import GramianMethod

EQUAL = ("imtl_g", "imtl", "config")


def equal(name: str) -> GramianMethod:
    method = equipoise.method(name)
    assert isinstance(method, GramianMethod)
    return method


def unit(J: Tensor) -> Tensor:
    """Rows of unit length; those that are zero stay."""
    norms = J.norm(dim=1, keepdim=True)
    return torch.where(norms > 0, J / norms, 0.0)


@pytest.mark.parametrize("name", EQUAL)
@pytest.mark.parametrize(("tasks", "count"), [(3, 500), (5, 500), (10, 500), (50, 50)])
def test_one_zero_gradient_of_many_leaves_the_pseudo_inverse(
    name: str, tasks: int, count: int
) -> None:
    method = equal(name)
    losses = torch.ones(tasks, dtype=torch.float64)
    for seed in range(count):
        draw = torch.Generator().manual_seed(seed)
        J = torch.randn(tasks, 2 * tasks + 9, generator=draw, dtype=torch.float64)
        J[seed % tasks] = 0
        weights = method.weights(J @ J.mT, losses)
        direction = weights @ J
        want = torch.linalg.pinv(unit(J), rtol=1e-9) @ losses
        # Weights that sum to one may turn it round.
        cosine = torch.cosine_similarity(direction, want, dim=0).abs()
        assert cosine > 1 - 1e-9
        assert weights[seed % tasks] == 0


@pytest.mark.parametrize("name", EQUAL)
def test_a_zero_gradient_among_parallel_ones(name: str) -> None:
    J = torch.tensor([[48.0], [0.0], [40.0], [8.0]], dtype=torch.float64)
    weights = equal(name).weights(J @ J.mT, torch.ones(4, dtype=torch.float64))
    assert weights[1] == 0
    assert float(weights @ J) > 0
    if name == "config":
        torch.testing.assert_close(weights @ J, J.sum(0))


@pytest.mark.parametrize("name", EQUAL)
def test_parallel_opposite_and_zero_gradients(name: str) -> None:
    method = equal(name)
    for seed in range(300):
        draw = torch.Generator().manual_seed(seed)
        tasks = 2 + seed % 9
        factors = torch.randint(-50, 50, (tasks, 1), generator=draw).double()
        factors[torch.rand(tasks, generator=draw) < 0.3] = 0
        J = factors * torch.randn(1, 7, generator=draw, dtype=torch.float64)
        weights = method.weights(J @ J.mT, torch.ones(tasks, dtype=torch.float64))
        assert torch.count_nonzero(weights[factors[:, 0] == 0]) == 0
        if name != "config":
            continue
        want = torch.linalg.pinv(unit(J), rtol=1e-9) @ torch.ones(tasks, dtype=torch.float64)
        axis = want / want.norm().clamp_min(1e-9)
        torch.testing.assert_close(
            weights @ J, (J @ axis).sum() * axis, rtol=1e-9, atol=1e-9 * float(J.norm())
        )
