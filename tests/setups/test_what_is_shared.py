"""Inputs, leaf tensors, tied weights, adapters, and models without heads."""

from __future__ import annotations

from collections.abc import Sequence
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
    grad_or_zero,
    method_of,
    run,
)
from torch import Tensor, nn

METHODS = ("mgda", "pcgrad", "cagrad", "nash_mtl", "upgrad", "rgw", "db_mtl")
CALLS = ("scalar", "backward")


class Equation(nn.Module):
    """A network that is trained on its own derivatives with respect to the input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1)).double()
        self.x = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
        self.edge = torch.randn(5, 2, dtype=torch.float64)

    def losses(self) -> dict[str, Tensor]:
        u = self.body(self.x)
        (slope,) = torch.autograd.grad(u.sum(), self.x, create_graph=True)
        (bend,) = torch.autograd.grad(slope[:, 0].sum(), self.x, create_graph=True)
        return {
            "equation": (bend[:, 0] + slope[:, 1] - u[:, 0]).square().mean(),
            "edge": 100 * (self.body(self.edge) - 1).square().mean(),
            "data": (u - self.x.detach().sum(1, keepdim=True)).square().mean(),
        }


@pytest.mark.parametrize("heads", ["weighted", "unweighted"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("method", ["uw_o", "mgda", "pcgrad", "nash_mtl", "rgw"])
def test_an_input_that_requires_a_gradient_is_not_balanced(
    method: str, call: Any, heads: str
) -> None:
    """It is in no head either: it gets what the head rule says, task by task."""
    model = Equation()
    reference = method_of(method)
    parameters = list(model.body.parameters())
    want = expected(reference, model.losses(), parameters, [model.x], heads=heads)
    run(balancer_of(method, ("equation", "edge", "data"), heads=heads), model.losses(), call)
    assert_left(want)


@pytest.mark.parametrize("method", LOSS_METHODS)
def test_loss_methods_reach_inputs_too(method: str) -> None:
    model = Equation()
    want = expected(method_of(method), model.losses(), list(model.body.parameters()), [model.x])
    balancer_of(method, ("equation", "edge", "data"))(model.losses()).backward()
    assert_left(want)


def test_the_explanation_does_not_count_the_input() -> None:
    model = Equation()
    balancer = balancer_of("mgda", ("equation", "edge", "data"))
    balancer(model.losses()).backward()
    entries = sum(p.numel() for p in model.body.parameters())
    assert f"4 tensors, {entries} entries" in balancer.explain()


def leaf_losses(leaf: Tensor, layer: nn.Linear | None = None) -> dict[str, Tensor]:
    z = leaf if layer is None else layer(leaf)
    return {"a": (z - 1).square().sum(), "b": (3 * z + 1).square().mean(), "c": (z * z).sum().exp()}


def small_leaf() -> Tensor:
    torch.manual_seed(2)
    return (0.1 * torch.randn(4, 3, dtype=torch.float64)).requires_grad_()


@pytest.mark.parametrize("method", ["mgda", "pcgrad", "db_mtl"])
def test_a_leaf_that_is_no_parameter_is_shared_only_by_name(method: str) -> None:
    leaf = small_leaf()
    with pytest.raises(ValueError, match="shared="):
        balancer_of(method)(leaf_losses(leaf))
    want = expected(method_of(method), leaf_losses(leaf), [leaf], [])
    balancer_of(method, shared=[leaf])(leaf_losses(leaf)).backward()
    assert_left(want)


@pytest.mark.parametrize("call", CALLS)
def test_a_leaf_named_beside_parameters_is_balanced_with_them(call: Any) -> None:
    leaf = small_leaf()
    layer = nn.Linear(3, 2).double()
    shared = [leaf, *layer.parameters()]
    want = expected(method_of("mgda"), leaf_losses(leaf, layer), shared, [])
    run(balancer_of("mgda", shared=shared), leaf_losses(leaf, layer), call)
    assert_left(want)


class Tied(nn.Module):
    """An embedding that one head reads again as its output layer, and a layer of two heads' own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(9, 4).double()
        self.body = nn.Linear(4, 4).double()
        self.between = nn.Linear(4, 3).double()
        self.last = nn.Linear(4, 2).double()

    def losses(self) -> dict[str, Tensor]:
        index = torch.arange(12) % 9
        z = self.body(self.embedding(index)).tanh()
        words = z @ self.embedding.weight.T
        return {
            "a": nn.functional.cross_entropy(words, (index + 1) % 9),
            "b": 5 * self.between(z).square().mean() + self.last(z).abs().mean(),
            "c": (self.between(z) - 1).square().mean(),
        }

    def parts(self) -> tuple[list[Tensor], list[Tensor]]:
        shared = [self.embedding, self.body, self.between]
        return [p for m in shared for p in m.parameters()], list(self.last.parameters())


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("method", METHODS)
def test_tied_weights_are_shared_and_a_task_may_miss_some(method: str, call: Any) -> None:
    model = Tied()
    want = expected(method_of(method), model.losses(), *model.parts())
    run(balancer_of(method), model.losses(), call)
    assert_left(want)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("method", METHODS)
def test_a_model_without_heads_is_shared_as_a_whole(method: str, call: Any) -> None:
    model = Model()

    def losses() -> dict[str, Tensor]:
        z = model.trunk(model.x)
        return {"a": z.square().mean(), "b": 40 * (z - 1).square().mean(), "c": z.exp().mean()}

    want = expected(method_of(method), losses(), list(model.trunk.parameters()), [])
    run(balancer_of(method), losses(), call)
    assert_left(want)


class Adapted(nn.Module):
    """A frozen layer with a trainable product of two thin matrices beside it."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.base = nn.Linear(inside, outside).requires_grad_(False)
        self.down = nn.Parameter(torch.randn(2, inside))
        self.up = nn.Parameter(torch.zeros(outside, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down.T @ self.up.T


def adapted_parts(model: Model, layers: Sequence[Adapted]) -> tuple[list[Tensor], list[Tensor]]:
    return [p for m in layers for p in (m.down, m.up)], list(model.heads.parameters())


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("method", METHODS)
def test_adapters_of_a_frozen_base_are_the_shared_part(method: str, call: Any) -> None:
    """Adapters begin at zero, so that half of them have no gradient in the first step."""
    model = Model()
    layers = [Adapted(6, 5).double(), Adapted(5, 4).double()]
    model.trunk = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh())
    parts = adapted_parts(model, layers)
    balancer, reference = balancer_of(method), method_of(method)
    for _ in range(3):
        clear(model.parameters())
        want = expected(reference, model.plain(), *parts)
        run(balancer, model.plain(), call)
        assert_left(want)
        with torch.no_grad():
            for tensor, gradient in want.items():
                tensor -= 0.05 * gradient
    assert all(layer.base.weight.grad is None for layer in layers)
    assert all(bool(layer.up.any()) for layer in layers)


@pytest.mark.parametrize("method", ["mgda", "rgw", "graddrop"])
def test_views_of_frozen_features_are_refused(method: str) -> None:
    """Nothing below the features learns; only an error can say so."""
    model = Model()
    model.trunk.requires_grad_(False)
    balancer = balancer_of(method)
    with pytest.raises(ValueError, match="no graph"):
        balancer.share(model.trunk(model.x))


@pytest.mark.parametrize("method", ["mgda", "pcgrad"])
def test_the_input_gets_the_balanced_gradient_below_views(method: str) -> None:
    """On the features route the input lies below the features, as the trunk does."""
    model = Model()
    model.x.requires_grad_()
    z = model.trunk(model.x)
    below = [*model.trunk.parameters(), model.x]
    losses = model.by_views(dict.fromkeys(TASKS, z))
    want = expected(method_of(method), losses, below, list(model.heads.parameters()), features=[z])
    balancer = balancer_of(method)
    balancer(model.by_views(balancer.share(model.trunk(model.x)))).backward()
    assert_left(want)


def test_a_parameter_that_no_loss_reaches_stays_without_gradient() -> None:
    model = Model()
    idle = nn.Parameter(torch.ones(3))
    model.trunk.register_parameter("idle", idle)
    for shared in (None, model.trunk):
        clear(model.parameters())
        balancer_of("mgda", shared=shared)(model.plain()).backward()
        assert idle.grad is None or not idle.grad.any()
        assert all(g.any() for g in grad_or_zero(model.plain()["a"], [model.trunk[0].weight]))
