"""What ``direction`` promises of its tensors: half precision is fine, and no graph is kept."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

import equipoise
from equipoise.methods.base import LossMethod
from equipoise.methods.catalogue import CATALOGUE, find
from equipoise.methods.drawing import Random
from equipoise.methods.famo import FAMO
from equipoise.methods.graddrop import GradDrop

EVERY = list(CATALOGUE)


def build(name: str, **options: Any) -> Any:
    if issubclass(find(name), Random):
        options["seed"] = 0
    method = equipoise.method(name, **options)
    method.begin(3)
    return method


def steps(number: int) -> list[tuple[Tensor, Tensor]]:
    """Jacobians and losses that half precision holds exactly, in float32."""
    generator = torch.Generator().manual_seed(3)
    return [
        (
            torch.randn(3, 6, generator=generator).bfloat16().float(),
            (0.2 + torch.rand(3, generator=generator)).bfloat16().float(),
        )
        for _ in range(number)
    ]


def take(method: Any, jacobian: Tensor, losses: Tensor) -> Tensor:
    given = [jacobian] * 3 if method.needs == "batches" else jacobian
    return cast(Tensor, method.direction(given, losses))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", EVERY)
def test_half_precision_gives_the_direction_of_float32_rounded(
    name: str, dtype: torch.dtype
) -> None:
    half, single = build(name), build(name)
    for jacobian, losses in steps(5):
        got = take(half, jacobian.to(dtype), losses.to(dtype))
        want = take(single, jacobian, losses)
        assert got.dtype == dtype
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(got.float(), want, rtol=eps, atol=eps * want.abs().max().item())
        half.after_step((0.9 * losses).to(dtype))
        single.after_step((0.9 * losses).to(dtype).float())


@pytest.mark.parametrize(
    ("dtype", "mu", "losses"),
    [
        (torch.float32, 1e-10, [1e30, 1.0, 2.0]),
        (torch.float64, 1e-10, [1e305, 1.0, 2.0]),
        (torch.float16, 1e-4, [30.0, 1.0, 2.0]),
    ],
)
@pytest.mark.parametrize("form", ["generic", "mtl"])
def test_stch_with_a_tiny_mu_is_the_hard_maximum(
    form: str, dtype: torch.dtype, mu: float, losses: list[float]
) -> None:
    method = build("stch", mu=mu, form=form, period=1, warmup_epoch=0)
    given = torch.tensor(losses, dtype=dtype)
    take(method, torch.eye(3, dtype=dtype), torch.ones(3, dtype=dtype))
    direction = take(method, torch.eye(3, dtype=dtype), given).double()
    first = 1 / 3 if form == "generic" else 3 / losses[0]
    want = torch.tensor([first, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(direction, want, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", EVERY)
def test_direction_and_state_keep_no_graph(name: str) -> None:
    method = build(name)
    for jacobian, losses in steps(3):
        direction = take(method, jacobian.requires_grad_(), losses.requires_grad_())
        assert not direction.requires_grad
        assert not any(buffer.requires_grad for buffer in method.buffers())
        if isinstance(method, LossMethod) and method.learns:
            assert method.weights(losses).requires_grad
        method.after_step(0.9 * losses)
        assert not any(buffer.requires_grad for buffer in method.buffers())


@pytest.mark.parametrize("after", [[0.5], [0.5, 0.5], [0.5] * 4])
def test_famo_refuses_another_number_of_losses_after_the_step(after: list[float]) -> None:
    method = build("famo")
    assert isinstance(method, FAMO)
    method.weights(torch.ones(3))
    with pytest.raises(ValueError, match=rf"famo: .*the losses of 3 tasks.*got {len(after)}"):
        method.after_step(torch.tensor(after))


@pytest.mark.parametrize("leak", [[0.0, 0.0], [0.5, 0.5], [0.0] * 4])
def test_graddrop_refuses_a_leak_of_another_length(leak: list[float]) -> None:
    with pytest.raises(ValueError, match=f"'leak' has {len(leak)} values but there are 3 tasks"):
        GradDrop(leak=leak).direction(torch.eye(3), torch.ones(3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["famo", "cov", "slaw", "uw_o", "gls"])
def test_half_precision_losses_that_stand_still_or_vanish(name: str, dtype: torch.dtype) -> None:
    method = build(name)
    for losses in ([1.0, 2.0, 3.0],) * 3 + ([0.0, 2.0, 3.0],) * 2:
        given = torch.tensor(losses, dtype=dtype)
        gradients = torch.diag((given > 0).to(dtype))  # a hinge has none at 0
        assert take(method, gradients, given).isfinite().all()
        method.after_step(given)
        assert all(buffer.isfinite().all() for buffer in method.buffers())
