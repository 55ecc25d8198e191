"""Gradient penalties, second derivatives, and a second backward pass: right, or refused clearly."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from one_by_one import (
    LOSS_METHODS,
    TASKS,
    Model,
    assert_left,
    balancer_of,
    clear,
    expected,
    flat,
    grad_or_zero,
    method_of,
    of_model,
    run,
    step_of,
    weights_of,
)
from torch import Tensor, nn
from torch.autograd import grad

ROUTES = [
    *((m, "losses") for m in LOSS_METHODS),
    *((m, "parameters") for m in ("mgda", "pcgrad", "nash_mtl", "rgw", "graddrop", "db_mtl")),
    *((m, "features") for m in ("mgda", "pcgrad", "nash_mtl", "rgw", "graddrop")),
]
every_route = pytest.mark.parametrize(("method", "route"), ROUTES)
# A refusal says what is not possible and where the second derivative can be taken instead.
REFUSED = re.compile(r"(create_graph|second|twice|penalt)(.|\n)*(losses|route)|route=")


def smooth(model: Model, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Losses with a second derivative everywhere."""
    a, b, c = (head(views[t]) for t, head in zip(TASKS, model.heads, strict=True))
    y = model.y
    return {"a": (a - y[0]).square().mean(), "b": b.exp().mean(), "c": (3 * c - y[2]).cosh().mean()}


def shared_or_plain(balancer: Any, model: Model, route: str) -> Any:
    z = model.trunk(model.x)
    return balancer.share(z) if route == "features" else dict.fromkeys(TASKS, z)


def parts_of(model: Model) -> tuple[list[Tensor], list[Tensor]]:
    return list(model.trunk.parameters()), list(model.heads.parameters())


@pytest.mark.parametrize("call", ["scalar", "backward"])
@pytest.mark.parametrize(("method", "route"), [way for way in ROUTES if way[1] != "features"])
def test_a_loss_may_hold_a_penalty_on_the_input_gradient(
    method: str, route: str, call: Any
) -> None:
    model = Model()

    def losses() -> dict[str, Tensor]:
        x = model.x.detach().requires_grad_()
        out = smooth(model, dict.fromkeys(TASKS, model.trunk(x)))
        (slope,) = grad(out["c"], x, create_graph=True)
        return {**out, "c": out["c"] + 50 * slope.square().sum()}

    shared = model.trunk if method == "graddrop" else None
    want = expected(method_of(method), losses(), *parts_of(model))
    run(balancer_of(method, shared=shared), losses(), call)
    assert_left(want)


@pytest.mark.parametrize("method", ["mgda", "pcgrad", "nash_mtl", "rgw", "graddrop"])
def test_a_penalty_on_the_gradient_at_a_view(method: str) -> None:
    """The head alone is differentiated twice: its task gradient at the features is plain."""
    model = Model()

    def losses(views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        out = smooth(model, views)
        (slope,) = grad(out["c"], views["c"], create_graph=True)
        return {**out, "c": out["c"] + slope.square().sum()}

    z = model.trunk(model.x)
    want = expected(
        method_of(method), losses(dict.fromkeys(TASKS, z)), *parts_of(model), features=[z]
    )
    balancer = balancer_of(method)
    balancer(losses(balancer.share(model.trunk(model.x)))).backward()
    assert_left(want)


@pytest.mark.parametrize("method", ["mgda", "pcgrad", "nash_mtl", "rgw", "graddrop", "uw_o"])
def test_a_penalty_through_a_view_is_right_or_refused(method: str) -> None:
    """A gradient at the input, taken through the views before the losses are balanced."""
    model = Model()

    def losses(x: Tensor, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        out = smooth(model, views)
        (slope,) = grad(out["c"], x, create_graph=True)
        return {**out, "c": out["c"] + 50 * slope.square().sum()}

    x = model.x.detach().requires_grad_()
    # Where the features cannot carry all of it, the exact gradients are the only right ones.
    want = expected(
        method_of(method), losses(x, dict.fromkeys(TASKS, model.trunk(x))), *parts_of(model)
    )
    balancer = balancer_of(method)
    x = model.x.detach().requires_grad_()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            balancer(losses(x, balancer.share(model.trunk(x)))).backward()
    except (ValueError, RuntimeError, UserWarning) as told:
        assert REFUSED.search(str(told)) and "called again" not in str(told), told
        return
    assert_left(want)


def second_order(method: Any, model: Model, route: str) -> dict[Tensor, Tensor]:
    """Of half the squared length of the balanced gradient plus a term beside, weights constant."""
    trunk, heads = parts_of(model)
    z = model.trunk(model.x)
    losses = smooth(model, dict.fromkeys(TASKS, z))
    values = torch.stack([x.detach() for x in losses.values()])
    at = [z] if route == "features" else trunk
    rows = torch.stack([flat(grad_or_zero(x, at)) for x in losses.values()])
    weights = weights_of(method, rows, values)
    factors = weights if method.card.heads == "weighted" else torch.ones(3, dtype=torch.float64)
    total = sum(w * x for w, x in zip(weights, losses.values(), strict=True))
    plain = sum(f * x for f, x in zip(factors, losses.values(), strict=True))
    slopes = [*grad(total, trunk, create_graph=True), *grad(plain, heads, create_graph=True)]
    slopes[0] = slopes[0] + trunk[0]
    penalty = sum(g.square().sum() for g in slopes) / 2
    return dict(zip([*trunk, *heads], grad(penalty, [*trunk, *heads]), strict=True))


@pytest.mark.parametrize(
    ("method", "route"), [way for way in ROUTES if way[0] not in ("graddrop", "db_mtl")]
)
def test_the_balanced_gradient_differentiated_again(method: str, route: str) -> None:
    model = Model()
    want = second_order(method_of(method), model, route)
    parameters = list(want)
    balancer = balancer_of(method)
    before: dict[str, float] = {}
    try:
        losses = smooth(model, shared_or_plain(balancer, model, route))
        total = balancer(losses) + parameters[0].square().sum() / 2
        slopes = grad(total, parameters, create_graph=True)
        before = balancer.weights
        penalty = sum(g.square().sum() for g in slopes) / 2
        clear(parameters)
        penalty.backward()
    except (ValueError, RuntimeError) as told:
        assert REFUSED.search(str(told)), told
    else:
        assert_left(want, 1e-9)
    assert balancer.weights == before or not before


@every_route
def test_a_graph_of_the_backward_pass_changes_no_gradient(method: str, route: str) -> None:
    model = Model()
    want = of_model(method_of(method), model, features=route == "features")
    balancer = balancer_of(method, shared=model.trunk if method == "graddrop" else None)
    total = balancer(model.by_views(shared_or_plain(balancer, model, route)))
    try:
        with warnings.catch_warnings():
            # Torch warns of the cycle between a parameter and the graph of its gradient.
            warnings.filterwarnings("ignore", message="Using backward")
            total.backward(create_graph=True)
    except (ValueError, RuntimeError) as told:
        assert REFUSED.search(str(told)), told
        return
    assert_left(want)


@every_route
def test_a_second_backward_pass_leaves_the_same_again(method: str, route: str) -> None:
    """No new weights, no new draws: the loss was balanced once."""
    model = Model()
    want = of_model(method_of(method), model, features=route == "features")
    shared = model.trunk if method == "graddrop" else None
    balancer = balancer_of(method, shared=shared)
    total = balancer(model.by_views(shared_or_plain(balancer, model, route)))
    total.backward(retain_graph=True)
    weights = balancer.weights
    assert_left(want)
    total.backward()
    assert_left(want, factor=2)
    assert balancer.weights == weights


@pytest.mark.parametrize(
    ("method", "route"),
    [
        *((m, "features") for m in ("rgw", "graddrop", "pcgrad", "nash_mtl")),
        *((m, "parameters") for m in ("db_mtl", "gradvac", "rgw")),
    ],
)
def test_a_second_backward_pass_advances_no_state(method: str, route: str) -> None:
    model, once, twice = Model(), balancer_of(method), balancer_of(method)
    for balancer, passes in ((once, 1), (twice, 2)):
        total = balancer(model.by_views(shared_or_plain(balancer, model, route)))
        for _ in range(passes):
            total.backward(retain_graph=True)
    for _ in range(3):
        model.x = model.x * 1.3
        got = []
        for balancer in (once, twice):
            clear(model.parameters())
            step_of(balancer, model, route)
            got.append(flat([p.grad for p in model.parameters()]))
        assert torch.equal(*got)


def test_a_penalty_on_parameters_beside_the_balanced_loss_is_untouched() -> None:
    """Meta-learning codes add second derivatives of their own to the scalar."""
    model = Model()
    want = of_model(method_of("mgda"), model)
    layer: nn.Linear = model.trunk[0]
    (slope,) = grad(model.plain()["b"], layer.weight, create_graph=True)
    extra = slope.square().sum()
    added = dict(zip(want, grad_or_zero(extra, list(want)), strict=True))
    total = balancer_of("mgda")(model.plain()) + extra
    total.backward()
    assert_left({p: want[p] + added[p] for p in want}, 1e-9)
