"""Customised gate control."""

from __future__ import annotations

import pytest
import torch
from arch_cases import TASKS, flat, losses_of, planted
from torch import nn

from equipoise.nn import CGC, MMoE

TRUNK = 6 * 8 + 8 + 8 * 5 + 5


def heads() -> dict[str, nn.Module]:
    return {t: nn.Linear(5, 2) for t in TASKS}


def test_experts_are_copies_of_the_trunk() -> None:
    model = CGC.over(flat(), heads(), shared=2, own=3)
    count = sum(p.numel() for p in model.parameters())
    assert count == (2 + 3 * 3) * TRUNK + 3 * 5 * (2 + 3) + 3 * 12


@pytest.mark.parametrize("gate", ["experts", "input", "static"])
def test_without_experts_of_their_own_tasks_have_mmoe(gate: str) -> None:
    torch.manual_seed(0)
    inputs, targets = planted("flat")
    model = CGC.over(flat(), heads(), shared=3, own=0, gate=gate, inputs=6)
    other = MMoE.over(flat(), heads(), experts=3, gate=gate, inputs=6)
    state = {n.replace("shared.", "experts."): p for n, p in model.state_dict().items()}
    other.load_state_dict(state)
    for network in (model, other):
        sum(losses_of(network(inputs), targets).values()).backward()
    got = {n.replace("shared.", "experts."): p.grad for n, p in model.named_parameters()}
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter.grad, got[name])


def test_a_task_mixes_the_shared_experts_and_its_own() -> None:
    torch.manual_seed(0)
    model = CGC.over(flat(), heads(), shared=2, own=1, gate="input", inputs=6).double()
    x = torch.randn(4, 6, dtype=torch.float64)
    for task, output in model(x).items():
        for row, example in enumerate(x):
            weights = (model.gates[task].scores.weight @ example).softmax(0)
            experts = [*model.shared, *model.own[task]]
            z = sum(w * e(example) for w, e in zip(weights, experts, strict=True))
            assert torch.allclose(output[row], model.heads[task](z), atol=1e-12)


def test_another_tasks_experts_are_neither_computed_nor_reached() -> None:
    model = CGC.over(flat(), heads())
    for name in ("one", "three"):
        model.own[name][0].register_forward_hook(lambda *_: pytest.fail("computed"))
    model(planted("flat")[0], tasks=["two"])["two"].sum().backward()
    touched = {n for n, p in model.named_parameters() if p.grad is not None}
    assert not [n for n in touched if "one" in n or "three" in n]
    assert {n.split(".")[0] for n in touched} == {"shared", "own", "gates", "heads"}


def test_shared_experts_are_needed() -> None:
    with pytest.raises(ValueError, match="shared=0: 1 or more"):
        CGC.over(flat(), heads(), shared=0)
