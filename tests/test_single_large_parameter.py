"""One large shared parameter: rows that are kept apart are joined for rules that need them whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import equipoise


def gradient(options: dict[str, Any], more: bool) -> Tensor:
    """The gradient of the large parameter; ``more`` shares a small one beside it."""
    torch.manual_seed(0)
    trunk = nn.Linear(300, 300, bias=False).double()
    beside = nn.Parameter(torch.zeros((), dtype=torch.float64), requires_grad=more)
    heads = nn.ModuleDict({t: nn.Linear(300, 2) for t in "abc"}).double()
    balancer = equipoise.Balancer(tasks=[*"abc"], seed=0, **options)
    z = torch.tanh(trunk(torch.randn(5, 300, dtype=torch.float64)))
    losses = {t: (h(z) - k).square().mean() for k, (t, h) in enumerate(heads.items())}
    balancer({t: x + 0.0 * beside for t, x in losses.items()}).backward()
    assert trunk.weight.grad is not None
    return trunk.weight.grad


@pytest.mark.parametrize(
    "options",
    [
        {"method": "graddrop"},
        {"method": "trimmed_mean"},
        {"method": "mgda"},
        {"method": "mgda", "gradient_ema": 0.5},
        {"method": "mgda", "blocks": "parameter"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_it_is_balanced_as_beside_another(options: dict[str, Any]) -> None:
    alone, beside = gradient(options, more=False), gradient(options, more=True)
    assert (alone - beside).norm() <= 1e-10 * beside.norm()


def test_a_shared_number_is_told_from_heads_beside_it() -> None:
    found = []
    for joined in (False, True):
        torch.manual_seed(0)
        trunk, scale = (
            nn.Linear(300, 300).double(),
            nn.Parameter(torch.ones((), dtype=torch.float64)),
        )
        heads = nn.Linear(300, 3).double()
        rows = [nn.Parameter(w.detach().clone()) for w in heads.weight]
        z = scale * torch.tanh(trunk(torch.randn(5, 300, dtype=torch.float64)))
        out = z @ torch.stack(rows).T if joined else torch.stack([z @ w for w in rows], 1)
        balancer = equipoise.Balancer("mgda", 3)
        balancer([(out[:, k] - k).square().mean() for k in range(3)]).backward()
        found.append([p.grad for p in (trunk.weight, scale, *rows)])
    for one, other in zip(*found, strict=True):
        assert (one - other).norm() <= 1e-10 * other.norm()
