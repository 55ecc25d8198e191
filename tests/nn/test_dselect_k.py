"""DSelect-k gates."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from arch_cases import TASKS, flat, losses_of, planted
from torch import Tensor, nn

from equipoise.nn import DSelectK
from equipoise.nn.dselect_k import SelectGate, smooth_step


def heads() -> dict[str, nn.Module]:
    return {t: nn.Linear(5, 2) for t in TASKS}


def by_hand(bits: Tensor, scores: Tensor, count: int, gamma: float) -> Tensor:
    """The paper's equations for one example, with loops."""
    k, width = bits.shape
    weights = [math.exp(s) for s in scores.tolist()]
    q = [0.0] * count
    for i in range(k):
        for j in range(count):
            r = 1.0
            for b in range(width):
                t = bits[i, b].item()
                if abs(t) >= gamma / 2:
                    s = float(t > 0)
                else:
                    s = -2 / gamma**3 * t**3 + 3 / (2 * gamma) * t + 0.5
                r *= s if (j >> b) % 2 else 1 - s
            q[j] += weights[i] / sum(weights) * r
    return torch.tensor(q, dtype=torch.float64)


@pytest.mark.parametrize(("count", "k", "gamma"), [(4, 2, 1.0), (5, 3, 0.7), (8, 1, 2.0)])
def test_weights_are_the_papers_equations(count: int, k: int, gamma: float) -> None:
    torch.manual_seed(0)
    gate = SelectGate(count, 3, k, gamma, False).double()
    nn.init.normal_(gate.bits.weight)
    x = torch.randn(6, 3, dtype=torch.float64)
    for row, weights in enumerate(gate(x)):
        bits = gate.bits(x[row]).reshape(k, -1)
        want = by_hand(bits, gate.scores(x[row]), count, gamma)
        assert torch.allclose(weights, want, atol=1e-12)


def test_the_smooth_step_is_smooth_and_a_step() -> None:
    t = torch.linspace(-1, 1, 2001, dtype=torch.float64, requires_grad=True)
    s = smooth_step(t, 1.0)
    (slope,) = torch.autograd.grad(s.sum(), t)
    assert torch.equal(s[t < -0.5], torch.zeros(500, dtype=torch.float64))
    assert torch.allclose(s[t > 0.5], torch.ones(500, dtype=torch.float64))
    assert slope.diff().abs().max() < 0.01
    assert slope.min() >= 0


@pytest.mark.parametrize("count", [4, 6])
def test_binary_codes_select_exactly_the_experts_they_name(count: int) -> None:
    gate = SelectGate(count, None, 2, 1.0, False)
    for pair in itertools.combinations(range(count), 2):
        codes = [[(j >> b) & 1 for b in range(gate.codes.shape[1])] for j in pair]
        with torch.no_grad():
            gate.bits.copy_((torch.tensor(codes) - 0.5).reshape(1, -1) * 1.2)
        weights = gate(None)[0]
        assert weights.nonzero().flatten().tolist() == list(pair)
        assert weights.sum().item() == pytest.approx(1)


def test_gates_start_near_the_middle_of_their_step() -> None:
    torch.manual_seed(0)
    gate = SelectGate(8, 4, 2, 1.0, False)
    assert gate.bits.weight.abs().max() <= 0.01
    assert torch.allclose(gate(torch.randn(5, 4)), torch.full((5, 8), 1 / 8), atol=0.05)


@pytest.mark.parametrize(("experts", "k"), [(4, 2), (5, 2), (4, 1)])
def test_after_training_with_the_regulariser_k_experts_are_selected(experts: int, k: int) -> None:
    torch.manual_seed(0)
    model = DSelectK.over(flat(), heads(), experts=experts, k=k, gate="static", regularised=True)
    inputs, targets = planted("flat")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        losses = losses_of(model(inputs), targets)
        more = model.regularisers()
        sum(losses[t] + 0.1 * more[t] for t in TASKS).backward()
        optimizer.step()
        optimizer.zero_grad()
    for task in TASKS:
        gate = model.gates[task]
        selectors = gate.selectors(None)[0]
        assert set(selectors.unique().tolist()) == {0.0, 1.0}
        assert torch.equal(selectors.sum(1), torch.ones(k))
        weights = gate(None)[0]
        assert weights.count_nonzero() == len(set(selectors.argmax(1).tolist())) <= k
        assert weights.sum().item() == pytest.approx(1)


def test_the_regulariser_is_entropy_and_what_is_lost_to_codes_without_expert() -> None:
    torch.manual_seed(0)
    for count in (4, 3):
        model = DSelectK.over(flat(), heads(), experts=count, regularised=True)
        inputs, _ = planted("flat")
        model(inputs)
        gate = model.gates["one"]
        outputs = torch.stack([expert(inputs) for expert in model.experts], 1)
        chosen = gate.selectors(outputs.mean(1))
        want = -(chosen * chosen.log()).sum((1, 2)).mean()
        if count == 3:
            want = want + (1 / chosen.sum(2)).sum(1).mean()
        assert torch.allclose(model.regularisers()["one"], want)


def test_a_network_that_kept_regularisers_can_be_copied() -> None:
    model = DSelectK.over(flat(), heads(), regularised=True)
    inputs, _ = planted("flat")
    with pytest.raises(RuntimeError, match="regularised=True"):
        model.regularisers()
    model(inputs)
    assert set(model.regularisers()) == set(TASKS)
    again = copy.deepcopy(model)
    with pytest.raises(RuntimeError, match="after a training pass"):
        again.regularisers()


def test_parameters_are_those_of_experts_and_gates() -> None:
    model = DSelectK.over(flat(), heads(), experts=8, k=2)
    trunk = 6 * 8 + 8 + 8 * 5 + 5
    gate = (5 + 1) * 2 * 3 + (5 + 1) * 2
    assert sum(p.numel() for p in model.parameters()) == 8 * trunk + 3 * gate + 3 * 12


def test_options_out_of_range_are_told() -> None:
    with pytest.raises(ValueError, match="experts=2: 3 or more"):
        DSelectK.over(flat(), heads(), experts=2, k=3)
    with pytest.raises(ValueError, match="k=0: 1 or more"):
        DSelectK.over(flat(), heads(), k=0)
    with pytest.raises(ValueError, match="gamma=0"):
        DSelectK.over(flat(), heads(), gamma=0)
