"""Multi-gate mixture of experts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from arch_cases import TASKS, flat, losses_of, maps, planted, tokens
from torch import nn

from equipoise.nn import MMoE, TrunkAndHeads

TRUNK = 6 * 8 + 8 + 8 * 5 + 5


def heads(width: int = 5) -> dict[str, nn.Module]:
    return {t: nn.Linear(width, 2) for t in TASKS}


def entries(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("options", "gate"),
    [
        ({}, 5 * 4),
        ({"gate": "input", "inputs": 6}, 6 * 4),
        ({"gate": "static"}, 4),
    ],
)
def test_experts_are_copies_of_the_trunk(options: dict[str, Any], gate: int) -> None:
    model = MMoE.over(flat(), heads(), experts=4, **options)
    assert entries(model) == 4 * TRUNK + 3 * gate + 3 * 12


def test_a_bottom_exists_once() -> None:
    model = MMoE.over(flat(), heads(), experts=4, bottom=1, gate="input")
    assert entries(model) == (6 * 8 + 8) + 4 * (8 * 5 + 5) + 3 * 8 * 4 + 3 * 12


def test_gates_on_the_input_are_the_papers_equation() -> None:
    """Against loops over examples and experts."""
    torch.manual_seed(0)
    model = MMoE.over(flat(), heads(), gate="input", inputs=6).double()
    x = torch.randn(7, 6, dtype=torch.float64)
    got = model(x)
    for task in TASKS:
        for row, example in enumerate(x):
            scores = model.gates[task].scores.weight @ example
            total = sum(s.exp() for s in scores)
            z = sum(
                s.exp() / total * e(example) for s, e in zip(scores, model.experts, strict=True)
            )
            assert torch.allclose(got[task][row], model.heads[task](z), atol=1e-12)


def test_gates_look_at_the_mean_of_their_experts_over_space() -> None:
    torch.manual_seed(0)
    model = MMoE.over(maps(), {t: nn.Identity() for t in TASKS}).eval()
    x = torch.randn(3, 2, 6, 6)
    outputs = [expert(x) for expert in model.experts]
    seen = sum(z.mean((2, 3)) for z in outputs) / 3
    weights = (seen @ model.gates["two"].scores.weight.T).softmax(1)
    want = sum(w[:, None, None, None] * z for w, z in zip(weights.T, outputs, strict=True))
    assert torch.allclose(model(x)["two"], want, atol=1e-6)


def test_one_expert_is_hard_sharing() -> None:
    torch.manual_seed(0)
    model = MMoE.over(flat(), heads(), experts=1).double()
    hard = TrunkAndHeads(nn.Sequential(*model.experts[0]), model.heads)
    inputs, targets = planted("flat")
    inputs, targets = inputs.double(), {t: y.double() for t, y in targets.items()}
    found = []
    for network in (model, hard):
        sum(losses_of(network(inputs), targets).values()).backward()
        found.append([p.grad.clone() for p in hard.parameters()])
        network.zero_grad()
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(*found, strict=True))


def test_static_gates_start_with_the_mean_of_the_experts() -> None:
    torch.manual_seed(0)
    model = MMoE.over(flat(), {t: nn.Identity() for t in TASKS}, gate="static")
    x = torch.randn(4, 6)
    want = torch.stack([expert(x) for expert in model.experts]).mean(0)
    assert torch.allclose(model(x)["one"], want, atol=1e-6)


def test_images_are_flattened_for_gates_on_the_input() -> None:
    model = MMoE.over(maps(), {t: nn.Conv2d(5, 1, 1) for t in TASKS}, gate="input", inputs=72)
    assert model(torch.randn(3, 2, 6, 6))["one"].shape == (3, 1, 3, 3)
    with pytest.raises(ValueError, match=r"inputs=72 and got .* 128 numbers an example"):
        model(torch.randn(3, 2, 8, 8))


def test_options_out_of_range_are_told() -> None:
    with pytest.raises(ValueError, match="does not tell; give it as inputs="):
        MMoE.over(flat(), heads(), gate="input")
    with pytest.raises(ValueError, match="gate='x' is none of 'experts', 'input', 'static'"):
        MMoE.over(flat(), heads(), gate="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="experts=0: 1 or more"):
        MMoE.over(flat(), heads(), experts=0)
    with pytest.raises(ValueError, match="experts need at least one"):
        MMoE.over(flat(), heads(), bottom=2)
    model = MMoE.over(tokens(), heads(), gate="input", inputs=4)
    with pytest.raises(ValueError, match=r"got torch.int64 \[12, 4\]"):
        model(planted("tokens")[0])
