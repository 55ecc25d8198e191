"""GradNorm on losses of very different size: the default keeps its weights above 0."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from equipoise.methods.gradnorm import GradNorm


def train(steps: int = 1000, **options: Any) -> tuple[Tensor, Tensor]:
    """The weights of every step and the last losses: two regressions with targets in scale 1 : 100."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 6, generator=generator, dtype=torch.float64)
    scales = torch.tensor([1.0, 100.0], dtype=torch.float64)
    y = scales * (x @ torch.randn(6, 2, generator=generator, dtype=torch.float64))
    y = y + scales * torch.randn(32, 2, generator=generator, dtype=torch.float64)
    trunk = 0.1 * torch.randn(6, 2, generator=generator, dtype=torch.float64)
    trunk.requires_grad_()
    heads = torch.eye(2, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.Adam([trunk, heads], lr=0.05)
    method = GradNorm(**options)
    weights = []
    for _ in range(steps):
        losses = (x @ trunk @ heads - y).square().mean(0)
        rows = torch.stack(
            [torch.autograd.grad(loss, trunk, retain_graph=True)[0].flatten() for loss in losses]
        )
        weights.append(method.weights(rows @ rows.mT, losses))
        optimizer.zero_grad()
        (weights[-1] @ losses).backward()
        optimizer.step()
    return torch.stack(weights), losses.detach()


def test_default_weights_stay_positive_and_both_tasks_descend() -> None:
    weights, losses = train()
    start = train(steps=1)[1]
    assert weights.isfinite().all()
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.full((1000,), 2.0, dtype=torch.float64))
    assert (losses < 0.9 * start).all()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_published_form_turns_weights_negative(optimizer: str) -> None:
    weights, _ = train(form="paper", optimizer=optimizer)
    assert (weights < 0).any()
    assert "climbs" in (GradNorm.__doc__ or "")
