"""Learning to branch."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from arch_cases import KINDS, TASKS, flat, losses_of, planted
from torch import nn

from equipoise import Balancer
from equipoise.nn import LTB, CrossStitch
from equipoise.nn.ltb import Branch

TRUNK = 6 * 8 + 8 + 8 * 5 + 5


def heads() -> dict[str, nn.Module]:
    return {t: nn.Linear(5, 2) for t in TASKS}


def branched(model: LTB, first: list[int], leaves: list[int]) -> None:
    """Sets whom the copies of the second stage and the heads read."""
    with torch.no_grad():
        for branch, parent in zip(model.branches[0], first, strict=True):
            branch.logits.zero_()[parent] = 3.0
        for leaf, parent in zip(model.leaves.values(), leaves, strict=True):
            leaf.logits.zero_()[parent] = 3.0


@pytest.mark.parametrize(("nodes", "count"), [(None, 3), (2, 2)])
def test_every_stage_has_copies_and_a_probability_for_each_parent(
    nodes: int | None, count: int
) -> None:
    model = LTB.over(flat(), heads(), nodes=nodes)
    branches = count * count + 3 * count
    assert sum(p.numel() for p in model.parameters()) == count * TRUNK + branches + 3 * 12
    for branch in [*model.branches[0], *model.leaves.values()]:
        assert torch.allclose(branch.probabilities(), torch.full((count,), 1 / count))


def test_draws_follow_the_probabilities() -> None:
    torch.manual_seed(0)
    branch = Branch(3)
    with torch.no_grad():
        branch.logits.copy_(torch.tensor([0.6, 0.3, 0.1]).log() + 2)
    on, tau = torch.tensor(True), torch.tensor(0.5)
    drawn = torch.cat([branch(tau, on, hard=True).detach() for _ in range(4000)])
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(drawn.mean(0), branch.probabilities(), atol=0.03)


def test_a_low_temperature_chooses_and_a_high_one_mixes() -> None:
    torch.manual_seed(0)
    branch, on = Branch(4), torch.tensor(True)
    cold, hot = (
        torch.cat([branch(torch.tensor(tau), on, hard=False) for _ in range(200)])
        for tau in (0.01, 100.0)
    )
    assert cold.amax(1).mean() > 0.98
    assert hot.amax(1).mean() < 0.27


def test_the_temperature_falls_with_training_passes() -> None:
    model = LTB.over(flat(), heads(), temperature=4.0, anneal=2.0, lowest=1.5)
    inputs, _ = planted("flat")
    taus = [model.tau().item()]
    for _ in range(6):
        model(inputs)
        taus.append(model.tau().item())
    assert taus[:3] == pytest.approx([4.0, 4 / 1.5**0.5, 4 / 2**0.5])
    assert taus == sorted(taus, reverse=True)
    for _ in range(20):
        model(inputs)
    assert model.tau().item() == 1.5
    model.eval()(inputs)
    assert model.passes.item() == 26 * 3


def test_passes_for_one_task_at_a_time_count_as_parts() -> None:
    model, other = (LTB.over(flat(), heads()) for _ in range(2))
    inputs, _ = planted("flat")
    model(inputs)
    for task in TASKS:
        other(inputs, tasks=[task])
    assert model.tau() == other.tau() < 5.0


def test_branches_do_not_learn_while_warming_up() -> None:
    model = LTB.over(flat(), heads(), warm_up=1)
    inputs, targets = planted("flat")
    moved = []
    for _ in range(2):
        torch.manual_seed(0)
        outputs = model(inputs)
        if not moved:
            torch.manual_seed(9)
            model.passes.zero_()
            again = model(inputs)
            assert all(torch.equal(outputs[t], again[t]) for t in TASKS)
        sum(losses_of(outputs, targets).values()).backward()
        moved.append(any(bool(b.logits.grad.any()) for b in model.leaves.values()))
        model.zero_grad()
    assert moved == [False, True]


@pytest.mark.parametrize("kind", ["flat", "unpooling"])
def test_a_hard_pass_is_a_pass_of_some_tree(kind: str) -> None:
    torch.manual_seed(0)
    trunk, head, _ = KINDS[kind]
    model = LTB.over(trunk(), {t: head() for t in TASKS}, nodes=2)
    inputs, _ = planted(kind)
    possible = []
    for path in itertools.product(range(2), range(2)):
        z = inputs
        for stage, node in zip(model.stages, path, strict=True):
            z = stage[node](z)
        possible.append(model.heads["two"](z))
    for _ in range(10):
        got = model(inputs)["two"]
        assert any(torch.allclose(got, want, atol=1e-6) for want in possible)


def test_evaluation_reads_the_most_probable_tree() -> None:
    model = LTB.over(flat(), heads()).eval()
    branched(model, [2, 2, 0], [0, 0, 2])
    assert model.tree() == {"one": (2, 0), "two": (2, 0), "three": (0, 2)}
    inputs, _ = planted("flat")
    calls: list[str] = []
    for j, stage in enumerate(model.stages):
        for n, node in enumerate(stage):
            node.register_forward_hook(lambda *_, at=(j, n): calls.append(at))
    got = model(inputs)
    assert calls == [(2 * 0, 2), (1, 0), (0, 0), (1, 2)]
    for task, path in model.tree().items():
        z = inputs
        for j, n in enumerate(path):
            z = model.stages[j][n](z)
        assert torch.equal(got[task], model.heads[task](z))


def test_a_sure_branching_trains_as_its_tree_does() -> None:
    """Hard draws with one certain parent each: the mixture is the tree."""
    inputs, targets = planted("flat")
    found = []
    for settled in (False, True):
        torch.manual_seed(0)
        model = LTB.over(flat(), heads(), hard=True, temperature=0.1)
        branched(model, [1, 1, 2], [0, 1, 2])
        with torch.no_grad():
            for branch in [*model.branches[0], *model.leaves.values()]:
                branch.logits.mul_(100)
        if settled:
            model.settle()
        losses = losses_of(model(inputs), targets)
        sum(losses.values()).backward()
        weight = model.stages[0][1][0].weight.grad
        found.append((torch.stack(list(losses.values())), weight))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-6)


@pytest.mark.parametrize("features", [False, True])
def test_a_settled_tree_shares_the_copies_that_two_tasks_pass(features: bool) -> None:
    model = LTB.over(flat(), heads())
    branched(model, [1, 1, 1], [0, 1, 2])
    model.settle()
    want = set(model.stages[0][1].parameters())
    assert set(model.shared_parameters()) == want
    inputs, targets = planted("flat")
    balancer = Balancer("cagrad", TASKS)
    losses = losses_of(model(inputs, share=balancer.share if features else None), targets)
    balancer(losses).backward()
    if not features:
        assert set(balancer.pipeline.shown.shared) == want
    again = LTB.over(flat(), heads())
    again.load_state_dict(model.state_dict())
    assert bool(again.settled)
    assert again.tree() == model.tree()
    assert len(copy.deepcopy(model).shared_parameters()) == len(want)


def test_the_mixture_is_that_of_columns_with_the_drawn_weights() -> None:
    """One pass against cross-stitch units that hold the weights drawn."""
    torch.manual_seed(0)
    model = LTB.over(flat(), heads(), hard=False)
    inputs, _ = planted("flat")
    torch.manual_seed(4)
    got = model(inputs)
    torch.manual_seed(4)
    tau, on = torch.tensor(5.0), torch.tensor(True)
    drawn = [b(tau, on, False)[0] for b in [*model.branches[0], *model.leaves.values()]]
    other = CrossStitch.over(flat(), dict(model.heads))
    with torch.no_grad():
        for k, task in enumerate(TASKS):
            for j in range(2):
                other.columns[task][j] = model.stages[j][k]
                other.mixers[str(j)][task].weight.copy_(drawn[3 * j + k])
    want = other(inputs)
    assert all(torch.allclose(got[t], want[t], atol=1e-6) for t in TASKS)


def test_options_out_of_range_are_told() -> None:
    with pytest.raises(ValueError, match="nodes=0: 1 or more"):
        LTB.over(flat(), heads(), nodes=0)
    with pytest.raises(ValueError, match="lowest=0: it has to be positive"):
        LTB.over(flat(), heads(), lowest=0)
