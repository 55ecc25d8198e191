"""The weighted sum of task gradients keeps what the weights promise."""

from __future__ import annotations

import pytest
import torch
from hulls import HULLS, Hull, hull
from torch import Tensor

import equipoise
from equipoise.methods.base import GramianMethod
from equipoise.solvers.products import combine, gramian

TOUCHING = torch.tensor([[0.8, -0.7, 0.7], [-0.8 + 1e-4, 0.7 - 1e-4, -0.7 + 1e-4], [0.9, 0.0, 0.5]])


def direction(name: str, J: Tensor) -> Tensor:
    method = equipoise.method(name)
    assert isinstance(method, GramianMethod)
    return method.direction(J, torch.ones(len(J))).double()


def conflict(J: Tensor, d: Tensor, weights: Tensor) -> float:
    """The worst cosine; of a sum that is all rounding, against what was summed."""
    rows = J.double()
    norms = rows.norm(dim=1).clamp_min(1e-300)
    size = (weights.abs() * norms).sum()
    return -float((rows @ d / norms).min() / torch.maximum(d.norm(), 1e-7 * size))


@pytest.mark.parametrize("name", ["upgrad", "dualproj"])
@pytest.mark.parametrize("kind", HULLS)
def test_single_precision_gradients_are_not_put_in_conflict(name: str, kind: Hull) -> None:
    for seed in range(12):
        for tasks, size, rank in ((20, 10, 4), (5, 5, 3), (8, 20, 6)):
            J = hull(seed, tasks, size, rank, kind, torch.float32)
            method = equipoise.method(name)
            assert isinstance(method, GramianMethod)
            weights = method.weights(gramian([J]), torch.ones(tasks, dtype=torch.float64))
            for given in (None, gramian([J])):
                assert conflict(J, combine(weights, J, given).double(), weights) <= 1e-6
            assert conflict(J, direction(name, J), weights) <= 1e-6


@pytest.mark.parametrize("name", ["upgrad", "dualproj", "config"])
def test_nearly_opposite_gradients_are_not_put_in_conflict(name: str) -> None:
    d = direction(name, TOUCHING)
    rows = TOUCHING.double()
    assert (rows @ d / rows.norm(dim=1)).min() >= -1e-6 * d.norm()


@pytest.mark.parametrize("name", ["upgrad", "dualproj", "mgda", "cagrad"])
def test_the_order_of_nearly_dependent_tasks_does_not_matter(name: str) -> None:
    order = torch.tensor([2, 0, 1])
    d, permuted = direction(name, TOUCHING), direction(name, TOUCHING[order])
    assert (d - permuted).norm() <= 1.2e-7 * d.norm()


def cancelling(dtype: torch.dtype, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, rows and their exact sum, which is a ten thousandth of its terms."""
    J = torch.randn(3, size, generator=torch.Generator().manual_seed(0))
    J[1] = 1e-4 * J[1] - J[0]
    J = J.to(dtype)
    weights = torch.tensor([3.0, 3.0, 1e-4], dtype=torch.float64)
    return weights, J, weights @ J.double()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [7, (1 << 17) + 3])
def test_what_cancels_keeps_the_digits_of_its_type(dtype: torch.dtype, size: int) -> None:
    weights, J, want = cancelling(dtype, size)
    for given in (None, gramian([J])):
        got = combine(weights, J, given)
        assert got.dtype == dtype
        assert got.shape == (size,)
        assert (got.double() - want).norm() <= torch.finfo(dtype).eps * want.norm()


def test_half_precision_does_not_round_the_weights() -> None:
    J = torch.full((1, 4), 1e-3, dtype=torch.float16)
    got = combine(torch.tensor([1e5], dtype=torch.float64), J, gramian([J]))
    torch.testing.assert_close(got.double(), 1e5 * J[0].double(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_batch_of_sums_equals_its_members(dtype: torch.dtype) -> None:
    J = torch.stack([hull(s, 4, 9, 3, "face", dtype) for s in range(6)]).view(2, 3, 4, 9)
    G = J.double() @ J.double().mT
    weights = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    want = (weights.unsqueeze(-2) @ J.double()).squeeze(-2)
    for given in (None, G):
        torch.testing.assert_close(combine(weights, J, given), want.to(dtype))


def test_gradients_flow_to_the_rows() -> None:
    weights, J, _ = cancelling(torch.float32, 7)
    J.requires_grad_()
    combine(weights, J, gramian([J.detach()])).sum().backward()
    assert J.grad is not None
    torch.testing.assert_close(J.grad, weights.float().unsqueeze(1).expand_as(J))


def test_weights_that_do_not_cancel_are_applied_as_they_are() -> None:
    J = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)).abs()
    weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    assert torch.equal(combine(weights, J, gramian([J])), (weights.float() @ J))
