"""SAMO around any method: task gradients of perturbed parameters."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

import equipoise
from equipoise import Balancer
from networks import TASKS, Network, build, plain_views


@pytest.fixture
def network() -> Network:
    return build("cnn")


def losses_of(network: Network) -> dict[str, Tensor]:
    return network.losses(plain_views(network.trunk(network.example)))


def by_hand(network: Network, method: str, rho: float) -> dict[str, Tensor]:
    """Gradients at parameters moved uphill along the mean gradient; heads along their own."""
    start = copy.deepcopy(network)
    shared = dict(start.trunk.named_parameters(prefix="trunk"))
    mean = sum(losses_of(start).values()) / 3
    names = [n for n, _ in start.named_parameters()]
    slopes = dict(zip(names, torch.autograd.grad(mean, list(start.parameters())), strict=True))
    rows, out = [], {}
    for task in TASKS:
        moved = copy.deepcopy(network)
        own = {n: p for n, p in moved.named_parameters() if n.startswith(f"heads.{task}")}
        for group in (shared, own):
            norm = torch.stack([slopes[n].norm() for n in group]).norm()
            with torch.no_grad():
                for n, p in moved.named_parameters():
                    if n in group:
                        p += rho * slopes[n] / norm
        loss = losses_of(moved)[task]
        grads = torch.autograd.grad(
            loss, [*moved.trunk.parameters(), *own.values()], allow_unused=True
        )
        count = len(shared)
        rows.append(torch.cat([g.flatten() for g in grads[:count]]))
        out.update(zip(own, grads[count:], strict=True))
    values = torch.stack([x.detach() for x in losses_of(start).values()])
    flat = equipoise.method(method).direction(torch.stack(rows), values)
    pieces = flat.split([p.numel() for p in shared.values()])
    out.update({n: f.view_as(p) for (n, p), f in zip(shared.items(), pieces, strict=True)})
    return out


@pytest.mark.parametrize("method", ["mgda", "cagrad", "upgrad"])
def test_the_gradient_is_the_methods_at_the_perturbed_parameters(
    method: str, network: Network
) -> None:
    want = by_hand(network, method, 0.05)
    balancer = Balancer(method, TASKS, shared=network.trunk)
    balancer.sharpness_aware(lambda: losses_of(network), rho=0.05, local=0.0).backward()
    for name, p in network.named_parameters():
        torch.testing.assert_close(p.grad, want[name], rtol=1e-7, atol=1e-9)


def test_parameters_and_statistics_end_as_after_one_forward_pass(network: Network) -> None:
    once = copy.deepcopy(network)
    losses_of(once)
    parameters = {n: p.clone() for n, p in network.named_parameters()}
    Balancer("mgda", TASKS).sharpness_aware(lambda: losses_of(network), local=0.5).backward()
    for name, p in network.named_parameters():
        assert torch.equal(p, parameters[name])
    for name, b in network.named_buffers():
        torch.testing.assert_close(b, once.get_buffer(name))


def test_the_local_estimate_points_along_the_tasks_gradient_on_average() -> None:
    """Far uphill along the estimate alone, the gradient of a square has moved along the gradient."""
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    torch.manual_seed(0)
    mean = torch.zeros(3, dtype=torch.float64)
    balancer = Balancer("ew", ["a"])
    for _ in range(1000):
        p.grad = None
        balancer.sharpness_aware(lambda: {"a": p.square().sum()}, rho=1.0, local=1.0).backward()
        mean += (p.grad / 2 - p.detach()) / 1000
    # A unit vector along (g . z) z, averaged over normal z, points along g.
    torch.testing.assert_close(mean / mean.norm(), p.detach() / p.norm(), rtol=0.15, atol=0.1)


@pytest.mark.parametrize("method", ["ew", "rlw", "gls", "rgw", "pcgrad", "graddrop", "nash_mtl"])
def test_it_trains_around_methods_of_every_kind(method: str, network: Network) -> None:
    balancer = Balancer(method, TASKS, seed=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    before = sum(losses_of(network).values()).item()
    for _ in range(15):
        optimizer.zero_grad()
        balancer.sharpness_aware(lambda: losses_of(network), rho=0.01).backward()
        optimizer.step()
    assert sum(losses_of(network).values()).item() < before


def test_numbers_out_of_range(network: Network) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Balancer("mgda", TASKS).sharpness_aware(lambda: losses_of(network), rho=0.0)


def test_views_that_the_closure_took_are_gone_after_the_step(network: Network) -> None:
    balancer = Balancer("mgda", TASKS)
    views = lambda: balancer.share(network.trunk(network.example))  # noqa: E731
    balancer.sharpness_aware(lambda: network.losses(views())).backward()
    network.zero_grad()
    balancer(losses_of(network)).backward()
    got = network.trunk[0].weight.grad
    network.zero_grad()
    Balancer("mgda", TASKS)(losses_of(network)).backward()
    torch.testing.assert_close(got, network.trunk[0].weight.grad)
