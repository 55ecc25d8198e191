"""Chains of layers below the heads: all tasks at once leave what one backward pass a task leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import equipoise
from equipoise.gradients import descent as descents
from equipoise.gradients.chain import Chain


class Around(nn.Module):
    """A skip connection around a module."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inside(x)


class Tied(nn.Module):
    """One layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x)))


class Cast(nn.Module):
    """A function of single entries by name."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def over(*activations: nn.Module, bias: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for activation in activations:
        layers += [nn.Linear(6, 6, bias=bias), activation]
    return nn.Sequential(*layers)


# A trunk on six entries, and how many of its Linear layers are in the chain.
TRUNKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "relu": (lambda: over(nn.ReLU(), nn.ReLU()), 2),
    "no activation on top": (lambda: nn.Sequential(over(nn.ReLU()), nn.Linear(6, 6)), 2),
    "no bias": (lambda: over(nn.ReLU(), nn.Tanh(), bias=False), 2),
    "gelu": (lambda: over(nn.GELU(), nn.GELU("tanh")), 2),
    "smooth": (lambda: over(nn.Tanh(), nn.Sigmoid(), nn.SiLU(), nn.Softplus()), 4),
    "leaky": (lambda: over(nn.LeakyReLU(0.1), nn.ELU(0.7)), 2),
    "in place": (lambda: over(nn.ReLU(inplace=True), nn.ReLU(inplace=True)), 2),
    "dropout": (lambda: over(nn.Dropout(0.4), nn.Sequential(nn.ReLU(), nn.Dropout(0.3))), 2),
    "scaled by a constant": (lambda: over(Cast(lambda x: 2 * x), nn.ReLU()), 1),
    "tied": (lambda: Tied(), 2),
    "frozen layer": (lambda: nn.Sequential(frozen(over(nn.ReLU())), over(nn.ReLU())), 1),
    "normalised between": (
        lambda: nn.Sequential(over(nn.ReLU()), nn.LayerNorm(6), over(nn.ReLU())),
        1,
    ),
    "skip below": (lambda: nn.Sequential(Around(over(nn.ReLU())), over(nn.ReLU())), 1),
    "skip on top": (lambda: Around(over(nn.ReLU(), nn.ReLU())), 0),
    "convolution below": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 6)),
            nn.Conv1d(1, 3, 3, padding=1),
            nn.BatchNorm1d(3),
            nn.Flatten(),
            nn.Linear(18, 6),
            nn.ReLU(),
        ),
        1,
    ),
    "tokens": (
        lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4)),
        2,
    ),
    "spectral norm": (
        lambda: nn.Sequential(
            over(nn.ReLU()), nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)), nn.ReLU()
        ),
        0,
    ),
}


def frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


class Network(nn.Module):
    """A trunk, and K heads of different forms."""

    def __init__(self, trunk: nn.Module, tasks: int = 4) -> None:
        super().__init__()
        self.trunk = trunk
        self.x = torch.randn(7, 6)
        width = trunk(self.x).flatten(1).shape[1]
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4), nn.Tanh(), nn.Linear(4, 2)) for _ in range(tasks)
        )

    def losses(self, views: Any = None, z: Tensor | None = None) -> dict[str, Tensor]:
        z = self.trunk(self.x) if z is None else z
        given = [z] * len(self.heads) if views is None else views(z)
        outputs = [head(view.flatten(1)) for head, view in zip(self.heads, given, strict=True)]
        return {str(k): (1 + k) * (out - k).square().mean() for k, out in enumerate(outputs)}


def network(name: str, dtype: torch.dtype = torch.float64, tasks: int = 4) -> Network:
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return Network(TRUNKS[name][0](), tasks)
    finally:
        torch.set_default_dtype(before)


def gradients(model: nn.Module) -> list[Tensor]:
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    return found


def balanced(model: Network, method: str, way: str) -> list[Tensor]:
    """The gradients that a new balancer leaves."""
    torch.manual_seed(1)
    names = [str(k) for k in range(len(model.heads))]
    balancer = equipoise.Balancer(method, names, route="parameters")
    views = (lambda z: list(balancer.share(z).values())) if way.startswith("share") else None
    losses = model.losses(views)
    if way.endswith("backward"):
        balancer.backward(losses)
    else:
        balancer(losses).backward()
    return gradients(model)


def weighted(
    balancer: equipoise.Balancer, model: Network, losses: Callable[[], dict[str, Tensor]]
) -> tuple[Tensor, Tensor]:
    """The gradient that a balancer leaves in the trunk, and the weighted sum of single backward passes."""
    shared = [*model.trunk.parameters()]
    single = [torch.autograd.grad(x, shared, retain_graph=True) for x in losses().values()]
    jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in single])
    balancer(losses()).backward()
    left = torch.cat([p.grad.flatten() for p in shared if p.grad is not None])
    model.zero_grad()
    weights = torch.tensor(list(balancer.weights.values()), dtype=jacobian.dtype)
    return left, weights @ jacobian


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch) -> list[Chain]:
    """The chains that were gone down."""
    seen: list[Chain] = []
    alone = descents.Descent.bring

    def bring(self: descents.Descent, *args: Any) -> Any:
        below = alone(self, *args)
        if below is not None:
            seen.append(self.chain)
        return below

    monkeypatch.setattr(descents.Descent, "bring", bring)
    return seen


@pytest.mark.parametrize("way", ["call", "backward", "share", "share backward"])
@pytest.mark.parametrize("name", TRUNKS)
def test_a_chain_leaves_the_gradients_of_one_pass_a_task(
    name: str, way: str, met: list[Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    for dtype, bound in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        met.clear()
        fast = balanced(network(name, dtype), "upgrad", way)
        layers = TRUNKS[name][1]
        assert sum(type(link).__name__ == "_Linear" for chain in met for link in chain.links) == (
            layers
        )
        with monkeypatch.context() as context:
            context.setattr("equipoise.gradients.ways.descent", lambda *_: None)
            slow = balanced(network(name, dtype), "upgrad", way)
        for one, other in zip(fast, slow, strict=True):
            assert (one - other).norm() <= bound * other.norm().clamp_min(1e-6), name


@pytest.mark.parametrize("method", ["graddrop", "pcgrad", "gradvac", "rgw"])
def test_forty_tasks_and_rules_of_single_entries(method: str, monkeypatch: Any) -> None:
    fast = balanced(network("relu", tasks=40), method, "call")
    monkeypatch.setattr("equipoise.gradients.ways.descent", lambda *_: None)
    slow = balanced(network("relu", tasks=40), method, "call")
    for one, other in zip(fast, slow, strict=True):
        assert (one - other).norm() <= 1e-8 * other.norm()


def test_a_hook_that_changes_a_gradient_inside_ends_the_use_of_the_chain(met: list[Chain]) -> None:
    model = network("relu")

    def reversed_losses() -> dict[str, Tensor]:
        inside = model.trunk[:2](model.x)
        inside.register_hook(lambda g: -g)
        return model.losses(z=model.trunk[2:](inside))

    balancer = equipoise.Balancer("mgda", 4)
    for _ in range(4):
        wanted = weighted(balancer, model, reversed_losses)
        torch.testing.assert_close(wanted[0], wanted[1], rtol=1e-6, atol=1e-10)
    assert not met


def test_a_hook_that_comes_late_is_found_in_time(met: list[Chain]) -> None:
    model, balancer = network("relu"), equipoise.Balancer("mgda", 4)

    def step(hooked: bool) -> None:
        inside = model.trunk[:2](model.x)
        if hooked:
            inside.register_hook(lambda g: -g)
        balancer(model.losses(z=model.trunk[2:](inside))).backward()

    for _ in range(5):
        step(hooked=False)
    assert len(met) == 5
    for _ in range(3):
        step(hooked=True)
    # The sixth goes unnoticed, the seventh is compared.
    assert len(met) == 6


def test_a_loss_that_gets_past_the_entry_is_not_sent_through_it(met: list[Chain]) -> None:
    model = network("relu", tasks=5)

    def losses() -> dict[str, Tensor]:
        low = model.trunk[:2](model.x)
        high = model.trunk[2:](low)
        found = model.losses(z=high)
        return {**found, "0": found["0"] + low.square().mean()}

    got, want = weighted(equipoise.Balancer("mgda", ["0", "1", "2", "3", "4"]), model, losses)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-10)
    assert not met


def test_an_absent_task_and_a_gradient_of_zero(met: list[Chain]) -> None:
    model = network("relu", tasks=5)
    balancer = equipoise.Balancer("mgda", ["0", "1", "2", "3", "4"])
    losses = model.losses()
    losses["1"] = losses["1"] * 0.0
    balancer(losses).backward()
    assert balancer.weights["1"] == pytest.approx(1.0)
    balancer({**model.losses(), "1": None}).backward()
    assert len(met) == 2
    assert set(balancer.weights) == {"0", "2", "3", "4"}


def test_perturbed_parameters_have_graphs_of_their_own(met: list[Chain]) -> None:
    left = []
    for chains in (True, False):
        model, balancer = network("relu"), equipoise.Balancer("mgda", 4)
        if not chains:
            model.trunk[3].register_full_backward_hook(lambda *_: None)
        balancer.sharpness_aware(model.losses, local=0.0).backward()
        left.append(torch.cat([g.flatten() for g in gradients(model)]))
    assert not met
    torch.testing.assert_close(*left, rtol=1e-9, atol=1e-12)


def agrees(balancer: equipoise.Balancer, leaves: list[Tensor], losses: dict[str, Tensor]) -> None:
    """The gradient of the leaves is the weighted sum of single backward passes."""
    single = [
        torch.autograd.grad(x, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
        for x in losses.values()
    ]
    balancer(losses).backward()
    weights = list(balancer.weights.values())
    for leaf, *rows in zip(leaves, *single, strict=True):
        want = sum(w * g for w, g in zip(weights, rows, strict=True))
        torch.testing.assert_close(leaf.grad, want, rtol=1e-6, atol=1e-12)
        leaf.grad = None


@pytest.mark.parametrize("share", [False, True])
def test_a_layer_of_the_chain_may_be_used_again_below(share: bool) -> None:
    model = network("relu")
    layer = model.trunk[0]
    balancer = equipoise.Balancer("mgda", [*"0123"], route="parameters")

    def losses(z: Tensor) -> dict[str, Tensor]:
        return model.losses((lambda y: list(balancer.share(y).values())) if share else None, z)

    once = torch.relu(layer(model.x))
    balancer(losses(once)).backward()
    model.zero_grad()
    twice = torch.relu(layer(torch.layer_norm(torch.relu(layer(model.x)), (6,))))
    before = torch.relu(layer(torch.layer_norm(torch.relu(layer(model.x)), (6,))))
    single = [
        torch.autograd.grad(x, [layer.weight], retain_graph=True)[0]
        for x in model.losses(z=before).values()
    ]
    balancer(losses(twice)).backward()
    want = sum(w * g for w, g in zip(balancer.weights.values(), single, strict=True))
    torch.testing.assert_close(layer.weight.grad, want, rtol=1e-6, atol=1e-12)


def test_a_hook_on_what_the_heads_read_is_called_once_a_task(met: list[Chain]) -> None:
    model = network("relu")
    leaves = [*model.trunk.parameters()]
    balancer = equipoise.Balancer("mgda", [*"0123"])
    for step in range(4):
        z = model.trunk(model.x)
        if step > 1:
            z.register_hook(lambda g: -3 * g)
        agrees(balancer, leaves, model.losses(z=z))
    assert len(met) == 2


def test_a_parameter_that_was_shared_and_is_reached_by_one_loss_only() -> None:
    model, beside = network("relu"), nn.Linear(6, 6).double()
    balancer = equipoise.Balancer("mgda", [*"0123"])
    for step in range(2):
        z = model.trunk(model.x)
        other = torch.tanh(beside(z))
        losses = model.losses(lambda z, other=other: [other, other, z, z])
        if step:
            del losses["1"]
        agrees(balancer, [*model.trunk.parameters(), *beside.parameters()], losses)


def test_a_loss_that_does_not_depend_on_its_view_is_told() -> None:
    model = network("relu")
    balancer = equipoise.Balancer("mgda", [*"0123"], route="parameters")
    z = model.trunk(model.x)
    losses = model.losses(lambda z: list(balancer.share(z).values()), z)
    losses["2"] = model.heads[2](model.x.new_ones(7, 6)).square().mean()
    with pytest.raises(ValueError, match="loss '2' does not depend on its view"):
        balancer(losses)


class Nothing(torch.autograd.Function):
    """The identity without a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> None:
        return None


@pytest.mark.parametrize("tasks", [3, 5])
@pytest.mark.parametrize("backward", [False, True])
def test_a_loss_without_a_gradient_is_told(tasks: int, backward: bool) -> None:
    model, balancer = network("relu", tasks=tasks), equipoise.Balancer("mgda", tasks)
    z = model.trunk(model.x)
    losses = model.losses(z=z)
    losses["1"] = model.heads[1](Nothing.apply(z)).square().mean()
    with pytest.raises(ValueError, match="loss '1' is None for every shared parameter"):
        balancer.backward(losses) if backward else balancer(losses)


def test_a_graph_that_was_freed_is_told(met: list[Chain]) -> None:
    model, balancer = network("relu"), equipoise.Balancer("mgda", 4)
    losses = model.losses()
    sum(losses.values()).backward()
    with pytest.raises(RuntimeError, match="second time"):
        balancer(losses)


def test_a_layer_that_was_changed_since_the_forward_pass_is_told() -> None:
    model, balancer = network("relu"), equipoise.Balancer("mgda", 4)
    losses = model.losses()
    with torch.no_grad():
        model.trunk[2].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        balancer(losses)


def test_a_chain_holds_no_graph_and_no_copy_of_it() -> None:
    model, balancer = network("relu"), equipoise.Balancer("mgda", 4)
    for _ in range(3):
        balancer(model.losses()).backward()
    assert all(p.grad is not None and not p.grad.requires_grad for p in model.parameters())
