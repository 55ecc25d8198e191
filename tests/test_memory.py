"""memory="low": the same gradients, and no task gradient kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.profiler import ProfilerActivity, profile

import equipoise
import networks
from equipoise.gradients.sections import sections


class Skip(nn.Module):
    """A skip connection over two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x + self.inside(x))


class Tied(nn.Module):
    """One layer at both ends, with another in between."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = nn.Linear(6, 6)
        self.middle = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.ends(torch.tanh(self.middle(torch.tanh(self.ends(x)))))


TRUNKS: dict[str, Callable[[], nn.Module]] = {
    "layers": lambda: nn.Sequential(*(m for _ in range(4) for m in (nn.Linear(6, 6), nn.Tanh()))),
    "skips": lambda: nn.Sequential(Skip(), Skip(), Skip()),
    "tied": lambda: nn.Sequential(Tied(), nn.Tanh(), Tied()),
    "normalised": lambda: nn.Sequential(
        nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 6), nn.LayerNorm(6)
    ),
    "spectral norm": lambda: nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)), nn.Tanh(), nn.Linear(6, 6)
    ),
    "frozen in between": lambda: nn.Sequential(
        nn.Linear(6, 6), nn.Linear(6, 6).requires_grad_(False), nn.Tanh(), nn.Linear(6, 6)
    ),
}


def model_of(name: str) -> tuple[nn.Module, nn.ModuleDict, Tensor]:
    torch.manual_seed(0)
    trunk = TRUNKS[name]().double()
    heads = nn.ModuleDict({t: nn.Linear(6, 2) for t in "abc"}).double()
    return trunk, heads, torch.randn(9, 6, dtype=torch.float64)


def step_of(name: str, memory: str, call: str, method: str = "upgrad") -> list[Tensor | None]:
    trunk, heads, x = model_of(name)
    balancer = equipoise.Balancer(method, [*"abc"], memory=memory, route="parameters", seed=0)
    for _ in range(2):
        z = trunk(x)
        views = balancer.share(z) if call == "share" else dict.fromkeys("abc", z)
        losses = {t: (h(views[t]) - k).square().mean() for k, (t, h) in enumerate(heads.items())}
        if call == "backward":
            balancer.backward(losses)
        else:
            balancer(losses).backward()
    assert balancer.metrics()
    return [p.grad for p in [*trunk.parameters(), *heads.parameters()]]


@pytest.mark.parametrize("call", ["call", "backward", "share"])
@pytest.mark.parametrize("name", TRUNKS)
def test_the_gradients_are_the_same(name: str, call: str) -> None:
    for one, other in zip(step_of(name, "low", call), step_of(name, "fast", call), strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert (one - other).norm() <= 1e-10 * other.norm().clamp_min(1e-3)


@pytest.mark.parametrize(
    "method",
    [
        card.id
        for card in equipoise.methods()
        if equipoise.method(card.id).needs == "gramian"
        and getattr(equipoise.method(card.id), "reads_gramian", True)
        and getattr(equipoise.method(card.id), "blocks", "model") == "model"
    ],
)
def test_every_method_that_balances_by_inner_products(method: str) -> None:
    low, fast = (step_of("skips", memory, "call", method) for memory in ("low", "fast"))
    for one, other in zip(low, fast, strict=True):
        assert one is not None and other is not None
        assert (one - other).norm() <= 1e-8 * other.norm().clamp_min(1e-6)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_the_networks_of_the_tests(name: str) -> None:
    found = []
    for memory in ("low", "fast"):
        network = networks.build(name)
        balancer = equipoise.Balancer("mgda", networks.TASKS, memory=memory)
        balancer(network.losses(networks.plain_views(network.trunk(network.example)))).backward()
        found.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert (found[0] - found[1]).norm() <= 1e-10 * found[1].norm()


def test_sections_follow_one_another_and_hold_every_parameter_once() -> None:
    trunk, _, x = model_of("skips")
    found = sections(get_gradient_edge(trunk(x)), [*trunk.parameters()], 1)
    assert len(found) >= 3
    held = [p for section in found for p in section.leaves]
    assert len(held) == len(set(held)) == len([*trunk.parameters()])
    assert [s.bottom and s.bottom.node for s in found[:-1]] == [s.top.node for s in found[1:]]
    whole = sections(get_gradient_edge(trunk(x)), [*trunk.parameters()], 10**9)
    assert len(whole) == 1
    assert whole[0].bottom is None


def test_less_memory_is_taken() -> None:
    def peak(memory: str) -> int:
        torch.manual_seed(0)
        trunk = nn.Sequential(*(m for _ in range(8) for m in (nn.Linear(256, 256), nn.ReLU())))
        heads = nn.ModuleDict({str(k): nn.Linear(256, 2) for k in range(8)})
        x = torch.randn(16, 256)
        balancer = equipoise.Balancer("mgda", [*heads], memory=memory)

        def step() -> None:
            trunk.zero_grad()
            z = trunk(x)
            balancer.backward({t: (h(z) - 1).square().mean() for t, h in heads.items()})

        for _ in range(2):
            step()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            step()
        held = most = 0
        for event in record.profiler.kineto_results.events():
            if event.name() == "[memory]":
                held += event.nbytes()
                most = max(most, held)
        return most

    parameters = 8 * (256 * 256 + 256) * 4
    assert peak("fast") > 8 * parameters
    assert peak("low") < 4 * parameters


def test_what_cannot_be_done_is_refused() -> None:
    for options, word in (
        ({"method": "graddrop"}, "does not balance by these alone"),
        ({"method": "uw"}, "does not balance by these alone"),
        ({"method": "mgda", "gradient_ema": 0.5}, "gradient_ema"),
        ({"method": "mgda", "blocks": "parameter"}, "blocks='parameter'"),
        ({"method": "mgda", "route": "features"}, "features route"),
    ):
        with pytest.raises(ValueError, match=word):
            equipoise.Balancer(**options, memory="low")
    with pytest.raises(ValueError, match="memory='small' is none of 'fast', 'low'"):
        equipoise.Balancer("mgda", memory="small")
    balancer = equipoise.Balancer("mgda", memory="low")
    trunk, heads, x = model_of("layers")
    low = trunk[:4](x)
    high = trunk[4:](low)
    with pytest.raises(ValueError, match="one tensor, made by the trunk"):
        balancer({"a": heads["a"](high).mean() + low.mean(), "b": heads["b"](high).mean()})
    with pytest.raises(ValueError, match="leave memory='low' out"):
        balancer.sharpness_aware(lambda: {"a": heads["a"](trunk(x)).mean()})


@pytest.mark.parametrize("where", [2, 4, 6, 8])
def test_a_hook_that_changes_gradients_is_applied_once_or_told(where: int) -> None:
    left: list[Tensor] = []
    for memory in ("fast", "low"):
        trunk, heads, x = model_of("layers")
        inside = trunk[:where](x)
        inside.register_hook(lambda g: 3 * g)
        z = trunk[where:](inside)
        losses = {t: (h(z) - k).square().mean() for k, (t, h) in enumerate(heads.items())}
        balancer = equipoise.Balancer("mgda", memory=memory)
        try:
            balancer(losses).backward()
        except ValueError as error:
            assert memory == "low"
            assert "such as a hook" in str(error)
            return
        left.append(torch.cat([p.grad.flatten() for p in trunk.parameters()]))
    assert where < 8
    assert (left[0] - left[1]).norm() <= 1e-10 * left[0].norm()


def test_features_that_are_parameters_are_told() -> None:
    _, heads, x = model_of("layers")
    codes = nn.Parameter(x)
    balancer = equipoise.Balancer("mgda", memory="low")
    with pytest.raises(ValueError, match="made by the trunk"):
        balancer({t: (h(codes) - 1).square().mean() for t, h in heads.items()})


def test_a_step_of_one_task_is_a_step() -> None:
    left = []
    for memory in ("fast", "low"):
        trunk, heads, x = model_of("skips")
        balancer = equipoise.Balancer("upgrad", [*"abc"], memory=memory)
        for present in ("abc", "b", "ac"):
            z = trunk(x)
            balancer({t: (heads[t](z) - 1).square().mean() for t in present}).backward()
        left.append(torch.cat([p.grad.flatten() for p in trunk.parameters()]))
    assert (left[0] - left[1]).norm() <= 1e-10 * left[0].norm()


def test_it_is_explained() -> None:
    assert "no task gradient is kept" in equipoise.Balancer("mgda", memory="low").explain()
    assert "task gradient is kept" not in equipoise.Balancer("mgda").explain()
