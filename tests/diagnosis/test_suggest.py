"""Planted cases are named rightly, and the network is left as it was."""

import copy
import math

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
    assert "whether any method does better than equal weights" in str(told)
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


def test_gradients_that_swing_are_no_conflict():
    model = TrunkAndHeads(nn.Linear(6, 1, bias=False), {"a": nn.Identity(), "b": nn.Identity()})
    calls = iter(range(1000))

    def losses(model, batch):
        z = model(batch)["a"].mean()
        # Two batches: 2 calls for the means, 8 for the times; then 2 calls at each of the points after 4, 5
        # and 6 steps, of which the last point alone has the tasks apart.
        return {"a": z, "b": -z if next(calls) in (20, 21) else z}

    told = equipoise.suggest(model, losses, [torch.ones(4, 6)] * 2, steps=6)
    assert next(calls) == 24
    assert told.spread["a", "b"] == pytest.approx((-1.0, 1.0))
    assert told.cosines["a", "b"] == pytest.approx(1 / 3)
    assert told.kind == "nothing" and "-1.00 to +1.00 at 3 points" in str(told)


def test_what_torch_draws_is_left_as_it_was():
    trunk = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.5))
    model = TrunkAndHeads(trunk, {name: nn.Linear(16, 1) for name in NAMES})
    given = torch.utils.data.DataLoader(batches(), batch_size=None, shuffle=True)
    before = torch.get_rng_state()
    equipoise.suggest(model, losses_of(), given)
    assert torch.equal(before, torch.get_rng_state())


def test_batches_of_one_task_each_are_taken_together():
    def losses(model, batch):
        name, inner = batch
        return {name: losses_of((1.0, 1.0, 300.0))(model, inner)[name]}

    given = [(name, batch) for batch in batches(count=4) for name in NAMES]
    told = equipoise.suggest(network(), losses, given, most=12)
    assert told.kind == "scale" and set(told.norms) == set(NAMES)
    assert "begin with" in str(told)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_named(value):
    def losses(model, batch):
        found = losses_of()(model, batch)
        return {**found, "b": found["b"] * value}

    with pytest.raises(
        ValueError, match=r"loss of task 'b' in batch 0 is (nan|inf) before the first"
    ):
        equipoise.suggest(network(), losses, batches())


def test_a_learning_rate_that_is_too_high_is_named():
    told = equipoise.suggest(network(), losses_of(), batches(), learning_rate=1e6)
    assert "a learning rate of 1e+06 is too high" in told.reasons[0]


def test_losses_without_names_are_refused():
    with pytest.raises(ValueError, match="returned a list; return a mapping from task name"):
        equipoise.suggest(network(), lambda m, b: [*losses_of()(m, b).values()], batches())


def test_sizes_are_told_where_nothing_stands_out():
    told = equipoise.suggest(network(), losses_of((1.0, 1.0, 4.0)), batches())
    ratio = max(told.norms.values()) / min(told.norms.values())
    assert told.kind == "nothing" and 2 < ratio < 10
    assert f"gradient norms differ {ratio:.3g} times" in str(told)


def test_losses_of_which_one_is_nearly_nothing_are_a_scale_problem():
    # A task whose loss has fallen to a few percent of the others, at gradients of like size.
    def losses(model, batch):
        found = losses_of()(model, batch)
        return {**found, "a": found["a"] + 50, "b": found["b"] + 50}

    told = equipoise.suggest(network(), losses, batches())
    assert max(told.norms.values()) < 10 * min(told.norms.values())
    assert told.kind == "scale" and told.method == "uw_o"
    assert "whether that of 'c' is halved" in str(told)


def test_losses_that_may_be_negative_are_not_compared_in_size():
    def losses(model, batch):
        found = losses_of()(model, batch)
        return {**found, "a": found["a"] - 50}

    told = equipoise.suggest(network(), losses, batches())
    assert told.kind == "nothing" and "losses" not in told.reasons[0]
