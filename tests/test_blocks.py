"""Weights for every parameter tensor by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

import equipoise
from equipoise import Balancer
from equipoise.balance.rule import Plain
from equipoise.balance.smoothing import PerTensor
from networks import TASKS, Network, build, plain_views


@pytest.fixture
def network() -> Network:
    return build("mlp")


def losses_of(network: Network) -> dict[str, Tensor]:
    return network.losses(plain_views(network.trunk(network.example)))


@pytest.mark.parametrize("method", ["gradvac", "mgda", "metabalance", "upgrad"])
def test_every_tensor_gets_the_methods_direction_of_its_own_gradients(
    method: str, network: Network
) -> None:
    torch.manual_seed(0)
    balancer = Balancer(method, TASKS, blocks="parameter", shared=network.trunk)
    balancer(losses_of(network)).backward()
    losses = losses_of(network)
    values = torch.stack([loss.detach() for loss in losses.values()])
    for name, p in network.trunk.named_parameters():
        rows = torch.stack(
            [torch.autograd.grad(x, p, retain_graph=True)[0].flatten() for x in losses.values()]
        )
        torch.manual_seed(0)
        want = equipoise.method(method).direction(rows, values)
        if method == "gradvac":
            # Its random order of tasks differs from block to block; for each, the result is a sum of the
            # same rows, so only the span can be compared without the draws.
            weights = torch.linalg.lstsq(rows.T, p.grad.flatten()).solution
            torch.testing.assert_close(weights @ rows, p.grad.flatten())
        else:
            torch.testing.assert_close(p.grad.flatten(), want, msg=name)
    assert set(balancer.weights) == set(TASKS)


def test_metabalance_works_tensor_by_tensor_without_being_told(network: Network) -> None:
    told, silent = (
        Balancer("metabalance", TASKS, blocks="parameter"),
        Balancer("metabalance", TASKS),
    )
    whole = Balancer("metabalance", TASKS, blocks="model")
    gradients = []
    for balancer in (told, silent, whole):
        network.zero_grad()
        balancer(losses_of(network)).backward()
        gradients.append(network.trunk[0].weight.grad.clone())
    assert torch.equal(gradients[0], gradients[1])
    assert not torch.allclose(gradients[0], gradients[2])


def test_metabalance_with_full_relaxation_equalises_the_norms() -> None:
    rows = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    method = equipoise.method("metabalance", relax=1.0, target=1)
    weights = method.weights(rows @ rows.T, torch.ones(3, dtype=torch.float64))
    norms = (weights.unsqueeze(1) * rows).norm(dim=1)
    torch.testing.assert_close(norms, rows[1].norm().expand(3))


def test_prior_bounds_and_sum_hold_block_by_block(network: Network) -> None:
    plain = Balancer("mgda", TASKS, blocks="parameter", shared=network.trunk)
    scaled = Balancer("mgda", TASKS, blocks="parameter", shared=network.trunk, weight_sum="tasks")
    plain(losses_of(network)).backward()
    once = network.trunk[0].weight.grad.clone()
    network.zero_grad()
    scaled(losses_of(network)).backward()
    # MGDA's weights sum to one in every block.
    torch.testing.assert_close(network.trunk[0].weight.grad, 3 * once)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("uw_so", {}, "'uw_so' does not look at inner products"),
        ("graddrop", {}, "'graddrop' does not look at inner products"),
        ("rgw", {}, "'rgw' does not look at inner products"),
        ("mgda", {"heads": "weighted"}, "heads cannot be weighted"),
        ("mgda", {"update_every": 2}, "update_every do not apply"),
        ("mgda", {"route": "features"}, "balances every parameter tensor by itself"),
    ],
)
def test_blocks_that_make_no_sense(method: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Balancer(method, TASKS, blocks="parameter", **options)


def test_adatask_is_one_adam_a_task() -> None:
    method = equipoise.method("adatask")
    torch.manual_seed(0)
    points = [torch.nn.Parameter(torch.zeros(5, dtype=torch.float64)) for _ in range(2)]
    adams = [torch.optim.Adam([p], lr=1.0) for p in points]
    total = torch.zeros(5, dtype=torch.float64)
    for _ in range(4):
        rows = torch.randn(2, 5, dtype=torch.float64)
        total += method.direction(rows, torch.ones(2, dtype=torch.float64))
        for p, adam, g in zip(points, adams, rows, strict=True):
            p.grad = g.clone()
            adam.step()
    torch.testing.assert_close(-total, points[0].detach() + points[1].detach())


def test_a_rule_by_tensor_around_a_method_without_inner_products_is_refused() -> None:
    with pytest.raises(ValueError, match="'uw_so' does not look at inner products"):
        PerTensor(Plain(equipoise.method("uw_so")))


@pytest.mark.parametrize("method", ["metabalance", "fairgrad"])
def test_an_average_of_a_model_with_weights_by_tensor_inside(method: str, network: Network) -> None:
    """Copied before the first step, when nobody knows how many tensors there are."""
    network.balancer = Balancer(method, TASKS, blocks="parameter")
    averaged = AveragedModel(network, use_buffers=True)
    for _ in range(2):
        network.balancer(losses_of(network)).backward()
        averaged.update_parameters(network)
    again = Balancer(method, TASKS, blocks="parameter")
    again.load_state_dict(network.balancer.state_dict())
    for name, value in network.balancer.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, equal_nan=True)
