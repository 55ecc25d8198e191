"""Progressive layered extraction."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from arch_cases import TASKS, flat, losses_of, planted
from torch import nn

from equipoise import Balancer
from equipoise.nn import CGC, PLE, Trunk


def heads() -> dict[str, nn.Module]:
    return {t: nn.Linear(5, 2) for t in TASKS}


def test_levels_are_stages() -> None:
    model = PLE.over(flat(), heads(), shared=2, own=1)
    level = [(2 + 3) * n for n in (6 * 8 + 8, 8 * 5 + 5)]
    gates = 3 * 8 * (2 + 1) + 8 * (2 + 3) + 3 * 5 * (2 + 1)
    assert sum(p.numel() for p in model.parameters()) == sum(level) + gates + 3 * 12


def test_gates_on_the_input_have_the_sizes_of_what_their_level_is_given() -> None:
    model = PLE.over(flat(3), heads(), gate="input", inputs=6)
    sizes = [level.gates["one"].scores.in_features for level in model.levels]
    assert sizes == [6, 8, 7]


def test_three_levels_are_the_papers_equations() -> None:
    """Against loops over examples, levels and experts."""
    torch.manual_seed(0)
    model = PLE.over(flat(3), heads(), shared=2, own=1, gate="input", inputs=6).double()
    x = torch.randn(4, 6, dtype=torch.float64)
    got = model(x)

    def gated(gate: Any, looks: torch.Tensor, outputs: list[torch.Tensor]) -> torch.Tensor:
        weights = (gate.scores.weight @ looks).softmax(0)
        return sum(w * z for w, z in zip(weights, outputs, strict=True))

    for row, example in enumerate(x):
        common, given = example, dict.fromkeys(TASKS, example)
        for level in model.levels:
            shared = [expert(common) for expert in level.shared]
            own = {t: [expert(given[t]) for expert in level.own[t]] for t in TASKS}
            given = {t: gated(level.gates[t], given[t], [*shared, *own[t]]) for t in TASKS}
            if level.gate is not None:
                every = [*shared, *(z for t in TASKS for z in own[t])]
                common = gated(level.gate, common, every)
        for task in TASKS:
            assert torch.allclose(got[task][row], model.heads[task](given[task]), atol=1e-12)


def test_one_level_is_cgc() -> None:
    torch.manual_seed(0)
    trunk = Trunk.of(lambda: nn.Linear(6, 5), 5)
    model = PLE.over(trunk, heads(), shared=2, own=2)
    other = CGC.over(trunk, heads(), shared=2, own=2)
    state = {n.replace("levels.0.", ""): p for n, p in model.state_dict().items()}
    other.load_state_dict({_as_sequential(n): p for n, p in state.items()})
    inputs, _ = planted("flat")
    got, want = model(inputs), other(inputs)
    assert all(torch.allclose(got[t], want[t], atol=1e-6) for t in TASKS)


def _as_sequential(name: str) -> str:
    """An expert of CGC is a sequence of stages, of PLE one stage."""
    parts = name.split(".")
    if parts[0] in ("shared", "own"):
        parts.insert(len(parts) - 1, "0")
    return ".".join(parts)


@pytest.mark.parametrize("stages", [2, 3])
def test_experts_below_the_last_level_are_shared_through_the_shared_gate(stages: int) -> None:
    model = PLE.over(flat(stages), heads())
    inputs, targets = planted("flat")
    balancer = Balancer("cagrad", TASKS)
    balancer(losses_of(model(inputs), targets))
    shared = set(balancer.pipeline.shown.shared)
    assert shared == set(model.shared_parameters())
    names = {n for n, p in model.named_parameters() if p in shared}
    for level in range(stages):
        is_shared = any(n.startswith(f"levels.{level}.own.one") for n in names)
        assert is_shared == (level < stages - 1)
        assert (f"levels.{level}.gates.one.scores.weight" in names) == (level < stages - 2)


def test_in_the_last_level_only_the_experts_asked_for_are_computed() -> None:
    model = PLE.over(flat(), heads())
    calls: list[str] = []
    for number, level in enumerate(model.levels):
        for task in TASKS:
            level.own[task][0].register_forward_hook(
                lambda *_, at=f"{number} {task}": calls.append(at)
            )
    model(planted("flat")[0], tasks=["two"])
    assert calls == ["0 one", "0 two", "0 three", "1 two"]


def test_tasks_need_experts_of_their_own() -> None:
    with pytest.raises(ValueError, match="own=0: 1 or more"):
        PLE.over(flat(), heads(), own=0)
