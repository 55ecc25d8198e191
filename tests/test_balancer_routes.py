"""Whatever the route and the call, the same gradient: the method's, as a slow reference computes it."""

from __future__ import annotations

import gc
import itertools
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import equipoise
from equipoise.methods.base import GramianMethod, JacobianMethod, LossMethod, Method
from networks import NETWORKS, TASKS, Network, build, plain_views

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
IDS = [card.id for card in equipoise.methods()]
ROUTES = ("losses", "parameters", "features")
DTYPES = (torch.float32, torch.float64)
CALLS = ("scalar", "backward")
# One method of each kind: weights that are known, learned, solved for, drawn; single entries; averages.
FAMILIES = ("ew", "uw", "mgda", "rgw", "graddrop", "db_mtl")


def new_method(method_id: str) -> Method:
    torch.manual_seed(11)
    return equipoise.method(method_id)


def options(method_id: str, route: str) -> str | None:
    """Why the pair cannot be, or None."""
    method = new_method(method_id)
    if not isinstance(method, LossMethod | GramianMethod | JacobianMethod):
        return "has an interface of its own"
    if route == "losses" and not isinstance(method, LossMethod):
        return "looks at task gradients"
    if route == "features" and method_id == "forum":
        return "descends along gradients of its own"
    if route == "features" and not isinstance(method, LossMethod) and route not in method.routes:
        return "compares gradients over steps"
    return None


def with_route(route: str) -> list[str]:
    """The methods that have it."""
    return [method_id for method_id in IDS if options(method_id, route) is None]


def setups() -> list[Any]:
    """Every method's routes once, with networks, precisions and calls in turn; families in full."""
    settings = list(itertools.product(NETWORKS, DTYPES, CALLS))
    out = []
    for shift, route in enumerate(ROUTES):
        for number, method_id in enumerate(with_route(route)):
            turn = [settings[(5 * number + shift) % len(settings)]]
            for name, dtype, call in settings if method_id in FAMILIES else turn:
                parts = (method_id, route, name, str(dtype).split(".")[1], call)
                out.append(pytest.param(method_id, route, name, dtype, call, id="-".join(parts)))
    return out


def gradients(network: Network) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in network.named_parameters()
    }


def named_order(network: Network, method_id: str) -> nn.Module | None:
    """Draws made for single entries need the reference's order of the parameters."""
    return network.trunk if equipoise.method(method_id).needs == "jacobian" else None


def by_balancer(
    name: str, dtype: torch.dtype, method_id: str, route: str, fast: bool
) -> dict[str, Tensor]:
    network = build(name, dtype)
    balancer = equipoise.Balancer(
        new_method(method_id),
        TASKS,
        route="auto" if route == "losses" else route,
        shared=named_order(network, method_id),
    )
    features = network.trunk(network.example)
    views = balancer.share(features) if route == "features" else plain_views(features)
    losses = network.losses(views)
    if fast:
        balancer.backward(losses)
    else:
        balancer(losses).backward()
    return gradients(network)


def by_reference(name: str, dtype: torch.dtype, method_id: str, route: str) -> dict[str, Tensor]:
    """Task gradients one by one, the method's direction, and a plain chain rule."""
    network = build(name, dtype)
    method = new_method(method_id)
    method.begin(len(TASKS))
    features = network.trunk(network.example)
    losses = network.losses(plain_views(features))
    values = torch.stack([loss.detach() for loss in losses.values()])
    base = [features] if route == "features" else list(network.trunk.parameters())
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, base, retain_graph=True)])
        for loss in losses.values()
    ]
    jacobian = torch.stack(rows)
    weights = torch.ones(len(TASKS), dtype=torch.float64)
    if isinstance(method, JacobianMethod) and route == "features":
        tall = jacobian.view(len(TASKS), *features.shape)
        combined = method.combine_features([tall], [features.detach()], values)[0].flatten()
    elif isinstance(method, JacobianMethod):
        combined = method.combine(jacobian, values)
        weights = method.applied_weights if method.tells_weights else weights
    elif isinstance(method, GramianMethod) and method.blocks == "parameter":
        parts = jacobian.double().split([p.numel() for p in network.trunk.parameters()], dim=1)
        gramians = torch.stack([part @ part.T for part in parts])
        block_weights = method.weights(gramians, values.double().expand(len(parts), -1))
        pieces = [w @ part for w, part in zip(block_weights, parts, strict=True)]
        combined = torch.cat(pieces).to(dtype)
    elif isinstance(method, GramianMethod):
        wide = jacobian.double()
        weights = method.weights(wide @ wide.T, values.double())
        combined = (weights @ wide).to(dtype)
    else:
        assert isinstance(method, LossMethod)
        weights = method.weights(values).detach().double()
        combined = (weights @ jacobian.double()).to(dtype)
    trunk = list(network.trunk.parameters())
    if route == "features":
        shared = torch.autograd.grad(features, trunk, combined.view_as(features), retain_graph=True)
    else:
        pieces = combined.split([p.numel() for p in trunk])
        shared = [piece.view_as(p) for piece, p in zip(pieces, trunk, strict=True)]
    out = {
        f"trunk.{n}": g for (n, _), g in zip(network.trunk.named_parameters(), shared, strict=True)
    }
    for k, (task, loss) in enumerate(losses.items()):
        own = method.head_factors(values)
        plain = 1.0 if own is None else own[k]
        factor = weights[k] if method.card.heads == "weighted" else plain
        head = list(network.heads[task].named_parameters())
        for (n, _), g in zip(
            head, torch.autograd.grad(loss, [p for _, p in head], retain_graph=True), strict=True
        ):
            out[f"heads.{task}.{n}"] = g * factor
    return out


def assert_close(got: dict[str, Tensor], want: dict[str, Tensor], tolerance: float) -> None:
    """Relative to the largest entry of the trunk or of the head a tensor belongs to."""
    assert set(got) == set(want)
    for group in ("trunk", *(f"heads.{task}" for task in TASKS)):
        names = [n for n in want if n.startswith(group + ".")]
        scale = max(float(want[n].abs().max()) for n in names)
        for n in names:
            gap = float((got[n].double() - want[n].double()).abs().max())
            assert gap <= tolerance * scale, f"{n}: {gap:.2e} of {scale:.2e}"


@pytest.mark.parametrize(("method_id", "route", "name", "dtype", "call"), setups())
def test_every_call_leaves_the_gradient_of_the_reference(
    method_id: str, route: str, name: str, dtype: torch.dtype, call: str
) -> None:
    got = by_balancer(name, dtype, method_id, route, call == "backward")
    assert_close(got, by_reference(name, dtype, method_id, route), TOLERANCE[dtype])


def exact_through_share(method_id: str, fast: bool) -> dict[str, Tensor]:
    network = build("mlp")
    balancer = equipoise.Balancer(
        new_method(method_id), TASKS, route="parameters", shared=named_order(network, method_id)
    )
    losses = network.losses(balancer.share(network.trunk(network.example)))
    if fast:
        balancer.backward(losses)
    else:
        balancer(losses).backward()
    return gradients(network)


@pytest.mark.parametrize(
    ("method_id", "call"),
    [
        (method_id, call)
        for number, method_id in enumerate(with_route("parameters"))
        for call in (CALLS if method_id in FAMILIES else (CALLS[number % 2],))
    ],
)
def test_exact_route_from_shared_features_is_the_exact_route(method_id: str, call: str) -> None:
    want = by_reference("mlp", torch.float64, method_id, "parameters")
    assert_close(exact_through_share(method_id, call == "backward"), want, 1e-10)


class CountBackward(torch.autograd.Function):
    runs = 0

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, g: Tensor) -> Tensor:
        CountBackward.runs += 1
        return g


@pytest.mark.parametrize("method_id", with_route("features"))
def test_features_route_runs_the_trunk_backward_once(method_id: str) -> None:
    network = build("mlp")
    balancer = equipoise.Balancer(new_method(method_id), TASKS, route="features")
    hooked = []
    handle = network.trunk[0].register_full_backward_hook(lambda *_: hooked.append(1))
    CountBackward.runs = 0
    features = CountBackward.apply(network.trunk(network.example.requires_grad_()))
    balancer(network.losses(balancer.share(features))).backward()
    handle.remove()
    assert (CountBackward.runs, len(hooked)) == (1, 1)


@pytest.mark.parametrize("method_id", with_route("parameters"))
def test_a_scaled_loss_leaves_the_scaled_gradient(method_id: str) -> None:
    """As a GradScaler, or a mean over accumulated batches, would scale it."""
    for route in new_method(method_id).routes:
        want = by_reference("mlp", torch.float64, method_id, route)
        network = build("mlp")
        shared = named_order(network, method_id)
        asked = "auto" if route == "losses" else route
        balancer = equipoise.Balancer(new_method(method_id), TASKS, route=asked, shared=shared)
        features = network.trunk(network.example)
        views = balancer.share(features) if route == "features" else plain_views(features)
        (balancer(network.losses(views)) * 1024.0).backward()
        scaled = {name: g / 1024.0 for name, g in gradients(network).items()}
        assert_close(scaled, want, 1e-9)


def test_backward_frees_the_graph_and_the_scalar_keeps_it() -> None:
    network = build("mlp")
    balancer = equipoise.Balancer("mgda", TASKS)
    features = network.trunk(network.example)
    losses = network.losses(plain_views(features))
    total = balancer(losses) + features.square().mean()
    total.backward()
    losses = network.losses(plain_views(network.trunk(network.example)))
    balancer.backward(losses)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(losses["left"], list(network.trunk.parameters()))


class Sentinel:
    pass


class Holding(torch.autograd.Function):
    """Keeps an object as long as the graph lives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Sentinel) -> Tensor:
        ctx.kept = kept
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return g, None


@pytest.mark.parametrize("route", ["parameters", "features"])
@pytest.mark.parametrize("heads", ["weighted", "unweighted"])
def test_no_graph_outlives_its_step(route: str, heads: str) -> None:
    """A cycle that only the garbage collector breaks would keep every activation for many steps."""
    network = build("mlp")
    balancer = equipoise.Balancer("mgda", TASKS, route=route, heads=heads)
    gc.collect()
    gc.disable()
    try:
        sentinel = Sentinel()
        alive = weakref.ref(sentinel)
        features = Holding.apply(network.trunk(network.example), sentinel)
        del sentinel
        views = balancer.share(features) if route == "features" else plain_views(features)
        balancer(network.losses(views)).backward()
        del features, views
        assert alive() is None
    finally:
        gc.enable()


def test_shared_parameters_can_be_named() -> None:
    network = build("mlp")
    last = network.trunk[2]
    balancer = equipoise.Balancer("rgw", TASKS, shared=last, seed=3)
    balancer(network.losses(plain_views(network.trunk(network.example)))).backward()
    weights = list(balancer.weights.values())
    losses = list(network.losses(plain_views(network.trunk(network.example))).values())
    want = sum(
        w * torch.autograd.grad(loss, last.weight, retain_graph=True)[0]
        for w, loss in zip(weights, losses, strict=True)
    )
    plain = torch.autograd.grad(sum(losses), network.trunk[0].weight)[0]
    torch.testing.assert_close(last.weight.grad, want)
    torch.testing.assert_close(network.trunk[0].weight.grad, plain)


def test_features_may_be_several_tensors() -> None:
    torch.manual_seed(0)
    low, high = nn.Linear(3, 4), nn.Linear(3, 5)
    heads = {t: (nn.Linear(4, 1), nn.Linear(5, 1)) for t in ("a", "b")}
    x = torch.randn(6, 3)
    balancer = equipoise.Balancer("rgw", ["a", "b"], seed=0)
    z = balancer.share({"low": low(x), "high": high(x)})
    losses = {t: (h[0](z[t]["low"]) + h[1](z[t]["high"])).square().mean() for t, h in heads.items()}
    balancer(losses).backward()
    assert low.weight.grad is not None and high.weight.grad is not None
    w = balancer.weights
    both = {"low": low(x), "high": high(x)}
    plain = sum(
        w[t] * (h[0](both["low"]) + h[1](both["high"])).square().mean() for t, h in heads.items()
    )
    want = torch.autograd.grad(plain, [low.weight, high.weight])
    torch.testing.assert_close([low.weight.grad, high.weight.grad], list(want))


def test_shared_parameters_are_found_in_the_order_of_use() -> None:
    from equipoise.gradients.graph import reached

    for name in ("mlp", "cnn"):
        network = build(name)
        losses = network.losses(plain_views(network.trunk(network.example)))
        got = reached(list(losses.values()))
        shared, own = got.common, got.own
        assert [id(p) for p in shared] == [id(p) for p in network.trunk.parameters()]
        for task, found in zip(losses, own, strict=True):
            assert [id(p) for p in found] == [id(p) for p in network.heads[task].parameters()]


def test_a_loss_that_is_a_parameter_is_found() -> None:
    from equipoise.gradients.graph import reached

    p, q = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))
    got = reached([p, p * q, q * 2])
    shared, own = got.common, got.own
    assert {id(x) for x in shared} == {id(p), id(q)} and own == [[], [], []]


def test_the_fast_path_frees_the_graph_of_known_weights_too() -> None:
    trunk = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
    out = trunk(torch.randn(5, 4))
    losses = {"a": out.square().mean(), "b": out.abs().mean()}
    equipoise.Balancer("rgw").backward(losses)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(losses["a"], list(trunk.parameters()))
