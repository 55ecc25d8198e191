"""Planted cases are named rightly, and the network is left as it was."""

import copy

import pytest
import torch
from torch import nn

import equipoise
from equipoise.nn import TrunkAndHeads

NAMES = ("a", "b", "c")


def network(seed=0, width=16):
    torch.manual_seed(seed)
    trunk = nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
    return TrunkAndHeads(trunk, {name: nn.Linear(width, 1) for name in NAMES})


def batches(seed=0, count=8, size=64, noisy=()):
    generator = torch.Generator().manual_seed(seed)
    made = []
    mixing = torch.randn(6, 3, generator=generator)
    for _ in range(count):
        x = torch.randn(size, 6, generator=generator)
        y = torch.tanh(x @ mixing)
        for k in noisy:
            y[:, k] = torch.randn(size, generator=generator)
        made.append((x, y))
    return made


def losses_of(scales=(1.0, 1.0, 1.0), absent=(), constant=()):
    def losses(model, batch):
        x, y = batch
        out = model(x)
        found = {}
        for k, name in enumerate(NAMES):
            if name in absent:
                continue
            z = out[name][:, 0]
            if name in constant:
                z = z * 0.0
            found[name] = scales[k] * (z - y[:, k]).square().mean()
        return found

    return losses


def test_scales_that_differ_are_a_scale_problem():
    told = equipoise.suggest(network(), losses_of((1.0, 1.0, 300.0)), batches())
    assert told.kind == "scale" and told.method == "uw_o"
    assert "a scale problem, not a conflict" in str(told) and "fixed weights" in str(told)
    assert told.norms["c"] > 10 * told.norms["a"]


def test_gradients_that_point_apart_are_a_conflict():
    model = network()

    # Two tasks that want opposite outputs of one head's features.
    def losses(model, batch):
        x, _ = batch
        z = model.trunk(x).sum(1)
        target = x[:, 0]
        return {
            "a": (z - target).square().mean(),
            "b": (z + target).square().mean(),
            "c": (model(x)["c"][:, 0] - target).square().mean(),
        }

    told = equipoise.suggest(model, losses, batches(), steps=60, learning_rate=0.01)
    assert told.kind == "conflict", str(told)
    assert "'a' and 'b' point apart" in str(told)
    assert "does not tell that training them apart is better" in str(told)


def test_like_tasks_stand_out_in_nothing():
    told = equipoise.suggest(network(), losses_of(), batches())
    assert told.kind == "nothing" and told.method == "ew"
    assert "nothing stands out" in str(told)


def test_noisy_labels_are_named():
    told = equipoise.suggest(network(), losses_of(), batches(noisy=(1,)), steps=60)
    assert any("'b'" in reason and "noise" in reason for reason in told.reasons), str(told)
    assert not any("'a'" in reason for reason in told.reasons), str(told)


def test_a_task_that_does_not_train_the_trunk_is_named():
    told = equipoise.suggest(network(), losses_of(constant=("b",)), batches())
    assert any("'b' has no gradient" in reason for reason in told.reasons)


def test_a_task_in_no_batch_is_named():
    told = equipoise.suggest(network(), losses_of(absent=("b",)), batches(), tasks=NAMES)
    assert any("'b' is in none of the batches" in reason for reason in told.reasons)


def test_the_network_is_left_as_it_was():
    model = network()
    before = copy.deepcopy(model.state_dict())
    equipoise.suggest(model, losses_of(), batches())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_one_batch_is_refused():
    with pytest.raises(ValueError, match="got 1 batches; give two or more"):
        equipoise.suggest(network(), losses_of(), batches(count=1))
    with pytest.raises(ValueError, match="losses of a; two tasks"):
        equipoise.suggest(network(), losses_of(absent=("b", "c")), batches())
