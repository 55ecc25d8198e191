"""Closures that are called again, copies, and averages of models."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
from typing import Any

import pytest
import torch
from one_by_one import TASKS, Model, balancer_of, clear, flat, outcome, step_of
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from equipoise import Balancer

STATEFUL = ("uw", "dwa", "famo", "rlw", "nash_mtl", "gradvac", "db_mtl", "moco", "graddrop", "rgw")
FROZEN = [
    *((m, "losses") for m in ("ew", "uw_o", "dwa", "famo", "rlw")),
    *((m, r) for m in ("mgda", "cagrad", "nash_mtl", "upgrad") for r in ("parameters", "features")),
    *((m, "parameters") for m in ("pcgrad", "rgw")),
]


# --- closures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["scalar", "backward"])
@pytest.mark.parametrize("heads", ["paper", "weighted", "unweighted"])
@pytest.mark.parametrize(("method", "route"), FROZEN)
def test_frozen_value_and_gradient_belong_to_one_function(
    method: str, route: str, heads: Any, call: Any
) -> None:
    """Central differences of the value along the gradient give the gradient's squared length."""
    model = Model()
    balancer = balancer_of(method, heads=heads)
    step_of(balancer, model, route)
    parameters = list(model.parameters())

    def value() -> tuple[float, Tensor]:
        clear(parameters)
        z = model.trunk(model.x)
        views = balancer.share(z) if route == "features" else dict.fromkeys(TASKS, z)
        losses = model.by_views(views)
        if call == "backward":
            total = balancer.backward(losses)
        else:
            total = balancer(losses)
            total.backward()
        return total.item(), flat([p.grad for p in parameters]).clone()

    with balancer.frozen():
        _, gradient = value()
        length = gradient.norm()
        unit = (gradient / length).split([p.numel() for p in parameters])
        ends = []
        for shift in (1e-5, -2e-5):
            with torch.no_grad():
                for p, d in zip(parameters, unit, strict=True):
                    p += shift * d.view_as(p)
            ends.append(value()[0])
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float(length), rel=1e-5)


@pytest.mark.parametrize("heads", ["weighted", "unweighted"])
@pytest.mark.parametrize(("method", "route"), FROZEN)
def test_lbfgs_with_line_search_descends_on_a_frozen_loss(
    method: str, route: str, heads: Any
) -> None:
    model = Model()
    balancer = balancer_of(method, heads=heads)
    step_of(balancer, model, route)
    lbfgs = torch.optim.LBFGS(model.parameters(), max_iter=8, line_search_fn="strong_wolfe")
    seen: list[float] = []

    def closure() -> Tensor:
        lbfgs.zero_grad()
        z = model.trunk(model.x)
        views = balancer.share(z) if route == "features" else dict.fromkeys(TASKS, z)
        loss = balancer(model.by_views(views))
        loss.backward()
        seen.append(loss.item())
        return loss

    with balancer.frozen():
        lbfgs.step(closure)
    # A line search that is told a false slope stops where it began.
    assert min(seen) < seen[0] - 0.02 * abs(seen[0])
    assert seen[-1] == pytest.approx(min(seen), rel=0.05)


@pytest.mark.parametrize("checks", ["now", "deferred"])
def test_a_frozen_negative_weight_is_refused_and_a_floor_is_the_remedy(checks: Any) -> None:
    lone = torch.tensor([0.1, 1.0], requires_grad=True)

    def losses() -> dict[str, Tensor]:
        return {"a": lone[0].square(), "b": lone[1].square()}

    balancer = Balancer("pbi", ["a", "b"], checks=checks)
    for _ in range(2):
        # A step at a time such a weight is what the method says.
        balancer(losses()).backward()
    assert balancer.weights is not None
    assert balancer.weights["a"] < -1
    with pytest.raises(RuntimeError, match=r"task 'a' -.*weight_floor=0"), balancer.frozen():
        for _ in range(2):
            balancer(losses())
    floored = Balancer("pbi", ["a", "b"], checks=checks, weight_floor=0)
    floored(losses()).backward()
    with floored.frozen():
        assert all(floored(losses()).item() >= 0 for _ in range(3))


# --- copies ---------------------------------------------------------------------------------------


def through_a_file(thing: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "file": through_a_file,
}


def turns() -> list[tuple[str, str, int, bool]]:
    """Every way for a few methods, every method with some of the ways: (method, way, steps, inside)."""
    settings = list(itertools.product(COPIES, (0, 2), (True, False)))
    out = []
    for number, method in enumerate([*STATEFUL, "mgda", "ew", "imtl_l"]):
        # New and used, and the three ways, one after the other.
        few = [settings[(5 * number + shift) % len(settings)] for shift in (0, 3, 6)]
        full = method in ("uw", "nash_mtl", "db_mtl")
        out += [(method, *setting) for setting in (settings if full else few)]
    return out


@pytest.mark.filterwarnings("ignore:the learnable weights")
@pytest.mark.parametrize(("method", "way", "steps", "inside"), turns())
def test_a_copy_goes_on_alike_and_apart(method: str, way: str, steps: int, inside: bool) -> None:
    model, balancer = Model(), balancer_of(method)
    if inside:
        model.balancer = balancer
    outcome(balancer, model, "parameters", steps) if steps else None
    clear(model.parameters())
    twin, other = COPIES[way]((model, balancer))
    assert not inside or twin.balancer is other
    got = outcome(other, twin, "parameters")
    # The original has not been moved by the copy's steps.
    assert torch.equal(outcome(balancer, model, "parameters"), got)


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("method", ["mgda", "nash_mtl", "ew"])
def test_a_copy_in_the_middle_of_a_step_has_no_pending_features(method: str, way: str) -> None:
    model, balancer = Model(), balancer_of(method)
    step_of(balancer, model, "features")
    views = balancer.share(model.trunk(model.x))
    other = COPIES[way](balancer)
    # The original's step is not disturbed, and the copy begins with a step of its own.
    clear(model.parameters())
    balancer(model.by_views(views)).backward()
    first = flat([p.grad for p in model.parameters()]).clone()
    clear(model.parameters())
    step_of(other, model, "features")
    assert torch.equal(first, flat([p.grad for p in model.parameters()]))
    clear(model.parameters())
    step_of(COPIES[way](balancer), model, "parameters")
    assert all(p.grad is not None for p in model.parameters())


# Learned weights are parameters of the model: their tasks have to be named.
@pytest.mark.parametrize("method", [method for method in STATEFUL if method != "uw"])
def test_a_model_is_copied_before_its_balancer_knows_the_tasks(method: str) -> None:
    """Nothing of the balancer is a buffer then, so that the copy's buffers pair with the model's."""
    model = Model(torch.float32)
    model.balancer = Balancer(method)
    model.norm = nn.BatchNorm1d(6)
    averaged = AveragedModel(model, use_buffers=False)
    for _ in range(3):
        outcome(model.balancer, model, "parameters", 1)
        model.norm(model.x)
        averaged.update_parameters(model)
    torch.testing.assert_close(averaged.module.norm.running_mean, model.norm.running_mean)
    other = Balancer(method)
    other.load_state_dict(model.balancer.state_dict())
    assert other.state_dict().keys() == model.balancer.state_dict().keys()


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("kind", ["ema", "mean", "mean with buffers"])
@pytest.mark.parametrize("method", STATEFUL)
def test_an_average_of_a_model_with_a_balancer_inside(method: str, kind: str, before: bool) -> None:
    """Copied before or after the first step; the layer behind the balancer has buffers of its own."""
    model = Model(torch.float32)
    model.balancer = balancer_of(method)
    model.norm = nn.BatchNorm1d(6)
    if not before:
        outcome(model.balancer, model, "parameters", 1)
    averaged = AveragedModel(
        model,
        multi_avg_fn=get_ema_multi_avg_fn(0.5) if kind == "ema" else None,
        use_buffers=kind == "mean with buffers",
    )
    kept = model.trunk[0].weight.detach().clone()
    mean = model.norm.running_mean.clone()
    for number in range(3):
        outcome(model.balancer, model, "parameters", 1)
        model.norm(model.x)
        averaged.update_parameters(model)
        share = 1.0 if number == 0 else 0.5 if kind == "ema" else 1 / (number + 1)
        kept += share * (model.trunk[0].weight.detach() - kept)
        mean += (share if kind == "mean with buffers" else 1.0) * (model.norm.running_mean - mean)
    torch.testing.assert_close(averaged.module.trunk[0].weight.detach(), kept)
    torch.testing.assert_close(averaged.module.norm.running_mean, mean)
    again = Model(torch.float32, seed=1)
    again.balancer, again.norm = Balancer(method, TASKS), nn.BatchNorm1d(6)
    again.load_state_dict(averaged.module.state_dict())
    averaged.eval()
    losses = averaged.module.plain()
    torch.testing.assert_close(averaged.module.balancer(losses), sum(losses.values()))
