"""Weights of a whole window of calls, for gradient accumulation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from one_by_one import TASKS, Model, balancer_of, clear, flat, grad_or_zero, method_of
from torch import Tensor

from equipoise import Balancer

CASES = [
    ("uw_o", "losses"),
    ("dwa", "losses"),
    *((m, r) for m in ("mgda", "cagrad", "nash_mtl") for r in ("parameters", "features")),
]


def batches(model: Model) -> list[Tensor]:
    return [model.x * (1 + 0.3 * number) for number in range(6)]


def losses_of(model: Model, x: Tensor, share: Any = None) -> tuple[dict[str, Tensor], Tensor]:
    z = model.trunk(x)
    views = dict.fromkeys(TASKS, z) if share is None else share(z)
    return model.by_views(views), z


def seen_by_method(model: Model, x: Tensor, route: str) -> tuple[Tensor, Tensor]:
    """Inner products of the task gradients, and losses."""
    losses, z = losses_of(model, x)
    at = [z] if route == "features" else list(model.trunk.parameters())
    rows = torch.stack([flat(grad_or_zero(loss, at)) for loss in losses.values()])
    return rows @ rows.T, torch.stack([loss.detach() for loss in losses.values()])


def weights_of(method: Any, gramian: Tensor, values: Tensor) -> Tensor:
    found = method.weights(values) if method.needs == "losses" else method.weights(gramian, values)
    return found.detach().double()


def step(balancer: Balancer, model: Model, x: Tensor, route: str, leave: str = "") -> Tensor:
    """Weights after a call; 0 for a task that is left out."""
    clear(model.parameters())
    losses, _ = losses_of(model, x, balancer.share if route == "features" else None)
    balancer({t: x for t, x in losses.items() if t != leave}).backward()
    return torch.tensor([balancer.weights.get(t, 0.0) for t in TASKS], dtype=torch.float64)


@pytest.mark.parametrize(("method", "route"), CASES)
def test_weights_are_those_of_the_means_of_the_window_before(method: str, route: str) -> None:
    model, reference = Model(), method_of(method)
    reference.begin(3)
    balancer = balancer_of(method, window=3)
    xs = batches(model)
    seen = [seen_by_method(model, x, route) for x in xs]
    got = [step(balancer, model, x, route) for x in xs]
    for number in range(3):
        torch.testing.assert_close(got[number], weights_of(reference, *seen[number]))
    gramian, values = (torch.stack(parts).mean(0) for parts in zip(*seen[:3], strict=True))
    want = weights_of(reference, gramian, values)
    for number in range(3, 6):
        torch.testing.assert_close(got[number], want)


@pytest.mark.parametrize("route", ["parameters", "features"])
def test_gradients_are_the_weighted_sum_of_each_call(route: str) -> None:
    model, balancer = Model(), balancer_of("cagrad", window=2)
    for x in batches(model)[:4]:
        weights = step(balancer, model, x, route)
        losses, _ = losses_of(model, x)
        shared = list(model.trunk.parameters())
        want = sum(
            w * flat(grad_or_zero(loss, shared))
            for w, loss in zip(weights, losses.values(), strict=True)
        )
        torch.testing.assert_close(flat([p.grad for p in shared]), want)


def test_a_task_that_is_absent_leaves_the_means_of_the_others_alone() -> None:
    model, balancer, reference = Model(), balancer_of("mgda", window=2), method_of("mgda")
    xs = batches(model)
    seen = [seen_by_method(model, x, "parameters") for x in xs]
    step(balancer, model, xs[0], "parameters")
    step(balancer, model, xs[1], "parameters", leave="b")
    gramian, values = seen[0][0].clone(), seen[0][1].clone()
    for i in (0, 2):
        values[i] = (seen[0][1][i] + seen[1][1][i]) / 2
        for j in (0, 2):
            gramian[i, j] = (seen[0][0][i, j] + seen[1][0][i, j]) / 2
    want = weights_of(reference, gramian, values)
    torch.testing.assert_close(step(balancer, model, xs[2], "parameters"), want)
    got = step(balancer, model, xs[3], "parameters", leave="a")
    torch.testing.assert_close(got, want * torch.tensor([0.0, 1.0, 1.0]))


def test_a_task_that_the_window_before_did_not_have_is_balanced_with_the_others_anew() -> None:
    model, balancer = Model(), balancer_of("mgda", window=2)
    xs = batches(model)
    for x in xs[:2]:
        step(balancer, model, x, "parameters", leave="c")
    got = step(balancer, model, xs[2], "parameters")
    want = weights_of(method_of("mgda"), *seen_by_method(model, xs[2], "parameters"))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("stop", [2, 3])
def test_resuming_in_the_middle_of_a_window_changes_nothing(stop: int) -> None:
    model, balancer = Model(), balancer_of("nash_mtl", window=2)
    xs = batches(model)
    for x in xs[:stop]:
        step(balancer, model, x, "parameters")
    again = balancer_of("nash_mtl", window=2)
    again.load_state_dict(balancer.state_dict())
    for x in xs[stop:]:
        assert torch.equal(*(step(b, model, x, "parameters") for b in (balancer, again)))


@pytest.mark.parametrize(
    ("method", "options", "why"),
    [
        ("uw", {}, "learns its weights"),
        ("moml", {}, "learns its weights"),
        ("graddrop", {}, "no loss weights"),
        ("mgda", {"blocks": "parameter"}, "blocks='parameter'"),
        ("mgda", {"update_every": 2}, "update_every"),
    ],
)
def test_what_has_no_meaning_is_refused(method: str, options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=f"window.*{why}|{why}.*window"):
        Balancer(method, TASKS, window=2, **options)
