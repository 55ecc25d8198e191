"""Hooks fire once with the balanced gradient, and ``.grad`` behaves as after any backward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from one_by_one import (
    TASKS,
    Model,
    assert_left,
    balancer_of,
    clear,
    expected,
    flat,
    method_of,
    of_model,
    step_of,
)
from torch import Tensor, nn

# Method, route, call: every way to a gradient.
WAYS = [
    *((m, "losses", c) for m in ("uw_o", "famo") for c in ("scalar", "backward")),
    *((m, "parameters", c) for m in ("mgda", "nash_mtl", "db_mtl") for c in ("scalar", "backward")),
    *((m, "parameters", "scalar") for m in ("pcgrad", "rgw")),
    *((m, "features", c) for m in ("mgda", "nash_mtl") for c in ("scalar", "backward")),
    *((m, "features", "scalar") for m in ("upgrad", "graddrop", "rgw")),
]
every_way = pytest.mark.parametrize(("method", "route", "call"), WAYS)


def wanted(method: str, route: str, model: Model) -> dict[Tensor, Tensor]:
    return of_model(method_of(method), model, features=route == "features")


@every_way
def test_a_hook_sees_the_balanced_gradient_once(method: str, route: str, call: Any) -> None:
    model = Model()
    want = wanted(method, route, model)
    seen: dict[Tensor, list[Tensor]] = {p: [] for p in want}
    for p, calls in seen.items():
        p.register_hook(lambda g, calls=calls: calls.append(g.clone()))
    step_of(balancer_of(method), model, route, call)
    assert [len(calls) for calls in seen.values()] == [1] * len(seen)
    assert_left(want)
    for p, (got,) in seen.items():
        assert torch.equal(got, p.grad)


@every_way
def test_a_hook_that_changes_the_gradient_acts_once(method: str, route: str, call: Any) -> None:
    for change in (lambda g: g * 0.5, lambda g: g.clamp(-1e-3, 1e-3), lambda g: g + 1):
        model = Model()
        want = {p: change(g) for p, g in wanted(method, route, model).items()}
        for p in want:
            p.register_hook(change)
        step_of(balancer_of(method), model, route, call)
        assert_left(want)


@every_way
def test_a_hook_after_accumulation_fires_once_a_parameter(
    method: str, route: str, call: Any
) -> None:
    """The optimiser step inside the backward pass: the gradient is applied and dropped there."""
    model = Model()
    want = wanted(method, route, model)
    before = {p: p.detach().clone() for p in want}
    fired: list[Tensor] = []

    def step(p: Tensor) -> None:
        fired.append(p)
        with torch.no_grad():
            p -= 0.5 * p.grad
        p.grad = None

    for p in want:
        p.register_post_accumulate_grad_hook(step)
    step_of(balancer_of(method), model, route, call)
    assert len(fired) == len(want) and set(fired) == set(want)
    for p, g in want.items():
        torch.testing.assert_close(p.detach(), before[p] - 0.5 * g, rtol=1e-9, atol=1e-12)
        assert p.grad is None


class TwoBiases(nn.Module):
    """Parameters whose gradients are equal, in the trunk and in a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Linear(3, 4, bias=False).double()
        self.heads = nn.ModuleList(nn.Linear(4, 2).double() for _ in TASKS)
        self.bias = nn.Parameter(torch.zeros(4, dtype=torch.float64))
        self.extra = nn.Parameter(torch.zeros(4, dtype=torch.float64))
        self.own = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.again = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.x = torch.randn(6, 3, dtype=torch.float64)

    def features(self) -> Tensor:
        return self.trunk(self.x) + (self.bias + self.extra)

    def losses(self, views: Any) -> dict[str, Tensor]:
        a, b, c = (head(views[t]) for t, head in zip(TASKS, self.heads, strict=True))
        return {
            "a": (a + (self.own + self.again)).square().mean(),
            "b": 9 * (b - 1).square().mean(),
            "c": (c + 1).abs().mean(),
        }


@every_way
def test_equal_gradients_are_not_one_tensor(method: str, route: str, call: Any) -> None:
    model, balancer = TwoBiases(), balancer_of(method)
    z = model.features()
    views = balancer.share(z) if route == "features" else dict.fromkeys(TASKS, z)
    if call == "backward":
        balancer.backward(model.losses(views))
    else:
        balancer(model.losses(views)).backward()
    for a, b in ((model.bias, model.extra), (model.own, model.again)):
        assert torch.equal(a.grad, b.grad) and bool(a.grad.any())
    kept = {p: p.grad.clone() for p in model.parameters()}
    for p in model.parameters():
        p.grad.mul_(3)
        kept[p] *= 3
        for other in model.parameters():
            assert torch.equal(other.grad, kept[other])


@every_way
def test_clipping_acts_once(method: str, route: str, call: Any) -> None:
    model, balancer = TwoBiases(), balancer_of(method)
    z = model.features()
    views = balancer.share(z) if route == "features" else dict.fromkeys(TASKS, z)
    if call == "backward":
        balancer.backward(model.losses(views))
    else:
        balancer(model.losses(views)).backward()
    whole = flat([p.grad for p in model.parameters()])
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.25 * float(whole.norm()))
    torch.testing.assert_close(
        flat([p.grad for p in model.parameters()]), 0.25 * whole, rtol=1e-5, atol=0
    )


@every_way
def test_gradients_that_are_there_are_added_to_in_place(method: str, route: str, call: Any) -> None:
    fresh, model = Model(), Model()
    step_of(balancer_of(method), fresh, route, call)
    there = {p: torch.full_like(p, 0.125) for p in model.parameters()}
    for p, g in there.items():
        p.grad = g
    step_of(balancer_of(method), model, route, call)
    for p, q in zip(model.parameters(), fresh.parameters(), strict=True):
        assert p.grad is there[p]
        assert torch.equal(p.grad, 0.125 + q.grad)


@pytest.mark.parametrize("method", ["db_mtl", "moco", "excess_mtl", "gradvac", "mgda"])
def test_what_is_done_to_the_gradients_does_not_reach_the_state(method: str) -> None:
    options = {"gradient_ema": 0.5} if method == "mgda" else {}
    after = []
    for spoil in (False, True):
        model, balancer = Model(), balancer_of(method, **options)
        for _ in range(3):
            model.x = model.x * 1.1
            step_of(balancer, model, "parameters")
            after.append(flat([p.grad for p in model.parameters()]).clone())
            for p in model.parameters():
                if spoil:
                    p.grad.zero_()
                p.grad = None
    assert all(torch.equal(a, b) for a, b in zip(after[:3], after[3:], strict=True))


@every_way
def test_micro_batches_add_up(method: str, route: str, call: Any) -> None:
    model, balancer, reference = Model(), balancer_of(method), method_of(method)
    total = {p: torch.zeros_like(p) for p in model.parameters()}
    for number in range(3):
        model.x = model.x * (1 + 0.2 * number)
        for p, g in of_model(reference, model, features=route == "features").items():
            total[p] += g
    model.x = Model().x
    for number in range(3):
        model.x = model.x * (1 + 0.2 * number)
        step_of(balancer, model, route, call)
    assert_left(total, 1e-9)


@pytest.mark.parametrize(("method", "route"), [way[:2] for way in WAYS if way[2] == "scalar"])
def test_a_constant_in_front_is_a_constant_in_the_gradient(method: str, route: str) -> None:
    model = Model()
    want = wanted(method, route, model)
    balancer = balancer_of(method)
    z = model.trunk(model.x)
    views = balancer.share(z) if route == "features" else dict.fromkeys(TASKS, z)
    total = balancer(model.by_views(views))
    weight = model.trunk[0].weight
    (total / 4 + 3 * weight.sum()).backward()
    weight.grad -= 3
    assert_left(want, 1e-9, factor=0.25)


@pytest.mark.parametrize("method", ["uw_o", "mgda", "pcgrad", "db_mtl"])
@pytest.mark.parametrize("call", ["scalar", "backward"])
def test_two_optimisers_at_different_paces(method: str, call: Any) -> None:
    """The trunk is stepped every time, the heads every other time with what has added up."""
    model, reference, balancer = Model(), method_of(method), balancer_of(method)
    trunk = torch.optim.SGD(model.trunk.parameters(), lr=0.01)
    heads = torch.optim.SGD(model.heads.parameters(), lr=0.01)
    added = {p: torch.zeros_like(p) for p in model.heads.parameters()}
    for step in range(4):
        want = of_model(reference, model)
        step_of(balancer, model, "parameters", call)
        for p in added:
            added[p] += want[p]
        assert_left({**want, **added}, 1e-9)
        trunk.step()
        trunk.zero_grad()
        if step % 2:
            heads.step()
            heads.zero_grad()
            added = {p: torch.zeros_like(p) for p in added}


@pytest.mark.parametrize("outer", ["uw_o", "mgda", "nash_mtl"])
@pytest.mark.parametrize("inner", ["ew", "uw_o", "mgda", "pcgrad"])
def test_a_balanced_loss_may_be_a_loss_of_another_balancer(inner: str, outer: str) -> None:
    model = Model()
    trunk, heads = list(model.trunk.parameters()), list(model.heads.parameters())
    losses = model.plain()
    pair = {t: losses[t] for t in "ab"}
    first = expected(method_of(inner), pair, trunk, heads)
    balancer = balancer_of(inner, ("a", "b"))
    total = balancer({t: losses[t] for t in "ab"})
    # A loss with the inner balancer's value and, behind it, the inner balancer's gradient.
    stand_in = sum((p * first[p]).sum() for p in (*trunk, *heads))
    stand_in = stand_in - stand_in.detach() + total.detach()
    want = expected(method_of(outer), {"ab": stand_in, "c": model.plain()["c"]}, trunk, heads)
    clear(want)
    balancer_of(outer, ("ab", "c"))({"ab": total, "c": losses["c"]}).backward()
    assert_left(want, 1e-9)
