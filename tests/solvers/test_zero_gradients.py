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
    norms = J.norm(dim=-1, keepdim=True)
    return torch.where(norms > 0, J / norms, 0.0)


@pytest.mark.parametrize("name", EQUAL)
@pytest.mark.parametrize(("tasks", "count"), [(3, 500), (5, 500), (10, 500), (50, 50)])
def test_one_zero_gradient_of_many_leaves_the_pseudo_inverse(
    name: str, tasks: int, count: int
) -> None:
    method = equal(name)
    ones = torch.ones(count, tasks, dtype=torch.float64)
    zero = torch.arange(count) % tasks
    draw = torch.Generator().manual_seed(0)
    J = torch.randn(count, tasks, 2 * tasks + 9, generator=draw, dtype=torch.float64)
    J[torch.arange(count), zero] = 0
    want = (torch.linalg.pinv(unit(J), rtol=1e-9) @ ones.unsqueeze(-1)).squeeze(-1)
    alone = [method.weights(each @ each.mT, ones[0]) for each in J[:20]]
    for weights in (method.weights(J @ J.mT, ones), torch.stack(alone)):
        some = slice(len(weights))
        direction = (weights.unsqueeze(-2) @ J[some]).squeeze(-2)
        # Weights that sum to one may turn it round.
        cosine = torch.cosine_similarity(direction, want[some], dim=-1).abs()
        assert bool((cosine > 1 - 1e-9).all())
        assert not weights.gather(-1, zero[some].unsqueeze(-1)).any()


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
