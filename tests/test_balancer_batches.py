"""Methods that multiply task gradients of independent batches."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

import equipoise
from equipoise import Balancer
from networks import TASKS, Network, build, plain_views

METHODS = [c.id for c in equipoise.methods() if equipoise.method(c.id).needs == "batches"]
SCALES = (1.0, 0.7, 1.4)


def losses_of(network: Network, scale: float) -> dict[str, Tensor]:
    return network.losses(plain_views(network.trunk(network.example * scale)))


def three(network: Network) -> list[dict[str, Tensor]]:
    return [losses_of(network, scale) for scale in SCALES]


@pytest.fixture
def network() -> Network:
    return build("mlp")


def test_there_are_such_methods() -> None:
    assert set(METHODS) == {"modo", "sdmgrad"}


@pytest.mark.parametrize("fast", [False, True], ids=["scalar", "backward"])
@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_is_that_of_the_method_on_three_jacobians(
    method: str, fast: bool, network: Network
) -> None:
    balancer = Balancer(method, TASKS, shared=network.trunk)
    reference = equipoise.method(method)
    for _ in range(2):
        network.zero_grad()
        if fast:
            balancer.backward(*three(network))
        else:
            balancer(*three(network)).backward()
        got = torch.cat([p.grad.flatten() for p in network.trunk.parameters()])
        rows = []
        for losses in three(network):
            of_task = [
                torch.autograd.grad(x, list(network.trunk.parameters()), retain_graph=True)
                for x in losses.values()
            ]
            rows.append(torch.stack([torch.cat([g.flatten() for g in gs]) for gs in of_task]))
        last = losses_of(network, SCALES[-1])
        values = torch.stack([x.detach() for x in last.values()])
        torch.testing.assert_close(got, reference.direction(rows, values))
        head = network.heads["left"].weight
        want = torch.autograd.grad(last["left"], head)[0]
        torch.testing.assert_close(head.grad, want)


@pytest.mark.parametrize("method", METHODS)
def test_fifty_steps_train(method: str, network: Network) -> None:
    balancer = Balancer(method, TASKS)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    before = sum(losses_of(network, 1.0).values()).item()
    for _ in range(50):
        optimizer.zero_grad()
        balancer(*three(network)).backward()
        optimizer.step()
    assert sum(losses_of(network, 1.0).values()).item() < before


@pytest.mark.parametrize("method", METHODS)
def test_saved_and_resumed_bit_for_bit(method: str, network: Network) -> None:
    balancer = Balancer(method, TASKS)
    for _ in range(2):
        balancer(*three(network))
    saved = copy.deepcopy(balancer.state_dict())
    want = balancer(*three(network)).item()
    resumed = Balancer(method, TASKS)
    resumed.load_state_dict(saved)
    assert resumed(*three(network)).item() == want


def test_batches_of_different_tasks(network: Network) -> None:
    batches = three(network)
    del batches[1]["left"]
    with pytest.raises(ValueError, match="the same tasks in all batches"):
        Balancer("modo", TASKS)(*batches)


def test_in_evaluation_one_batch_is_enough(network: Network) -> None:
    losses = losses_of(network, 1.0)
    balancer = Balancer("modo", TASKS).eval()
    torch.testing.assert_close(balancer(losses), sum(losses.values()))
