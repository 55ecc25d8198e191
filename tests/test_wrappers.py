"""What can be put around any method."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import equipoise
from equipoise import Balancer
from equipoise.methods.base import GramianMethod, Method
from networks import TASKS, Network, build, plain_views

IDS = [c.id for c in equipoise.methods()]


def losses_of(network: Network, scale: float = 1.0) -> dict[str, Tensor]:
    return network.losses(plain_views(network.trunk(network.example * scale)))


@pytest.fixture
def network() -> Network:
    return build("mlp")


def flat(network: Network) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.trunk.parameters()])


@pytest.mark.parametrize("method", ["ew", "rlw", "mgda", "pcgrad", "cagrad", "graddrop"])
def test_log_transform_is_the_method_on_log_losses(method: str, network: Network) -> None:
    torch.manual_seed(1)
    balancer = Balancer(method, TASKS, transform="log")
    balancer(losses_of(network)).backward()
    got = flat(network)
    network.zero_grad()
    torch.manual_seed(1)
    logs = {name: loss.log() for name, loss in losses_of(network).items()}
    Balancer(method, TASKS)(logs).backward()
    torch.testing.assert_close(got, flat(network))
    raw = losses_of(network)
    assert balancer.metrics()["balance/loss/left"] == pytest.approx(raw["left"].item())


def test_ew_on_log_losses_is_si(network: Network) -> None:
    Balancer("ew", transform="log")(losses_of(network)).backward()
    got = flat(network)
    network.zero_grad()
    Balancer("si")(losses_of(network)).backward()
    torch.testing.assert_close(got, flat(network))


def test_log_transform_of_a_loss_that_is_not_positive(network: Network) -> None:
    losses = losses_of(network)
    losses["right"] = losses["right"] - 9
    with pytest.raises(ValueError, match=r"'right' is -.*transform='log' needs positive"):
        Balancer("ew", transform="log")(losses)


@pytest.mark.parametrize("method", ["rlw", "mgda"])
def test_averaged_weights_are_the_running_mean_of_the_methods(
    method: str, network: Network
) -> None:
    plain, averaged = (Balancer(method, TASKS, seed=2, weight_ema=e) for e in (0.0, 0.7))
    mean: Tensor | None = None
    for step in range(4):
        plain(losses_of(network, 1 + step))
        averaged(losses_of(network, 1 + step))
        new = torch.tensor(list(plain.weights.values()))
        mean = new if mean is None else 0.7 * mean + 0.3 * new
        torch.testing.assert_close(torch.tensor(list(averaged.weights.values())), mean)


def test_averaged_weights_of_a_task_that_comes_late_start_with_its_first(network: Network) -> None:
    balancer = Balancer("uw_o", TASKS, weight_ema=0.9)
    early = losses_of(network)
    del early["rebuild"]
    balancer(early)
    losses = losses_of(network, 2.0)
    balancer(losses)
    assert balancer.weights["rebuild"] == pytest.approx(1 / losses["rebuild"].item(), rel=1e-6)


def test_bounds_hold_for_the_methods_weights(network: Network) -> None:
    balancer = Balancer("uw_o", TASKS, weight_floor=0.9, weight_cap=2.0)
    balancer(losses_of(network))
    assert all(0.9 <= w <= 2.0 for w in balancer.weights.values())
    assert balancer.weights["rebuild"] == 2.0


def test_averaged_gradients_are_what_the_method_sees(network: Network) -> None:
    balancer = Balancer("mgda", TASKS, gradient_ema=0.5, shared=network.trunk)
    mean: Tensor | None = None
    for step in range(3):
        network.zero_grad()
        balancer(losses_of(network, 1 + step)).backward()
        rows = torch.stack(
            [
                torch.cat(
                    [
                        g.flatten()
                        for g in torch.autograd.grad(
                            loss, list(network.trunk.parameters()), retain_graph=True
                        )
                    ]
                )
                for loss in losses_of(network, 1 + step).values()
            ]
        )
        mean = rows if mean is None else 0.5 * mean + 0.5 * rows
    assert mean is not None
    want = equipoise.method("mgda").direction(mean, torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(flat(network), want)


def test_averages_are_saved_and_resumed(network: Network) -> None:
    def run(balancer: Balancer, steps: range) -> list[Tensor]:
        out = []
        for step in steps:
            network.zero_grad()
            balancer(losses_of(network, 1 + step)).backward()
            out.append(flat(network))
        return out

    options = {"gradient_ema": 0.5, "weight_ema": 0.5, "shared": network.trunk}
    balancer = Balancer("mgda", TASKS, **options)
    run(balancer, range(3))
    saved = copy.deepcopy(balancer.state_dict())
    want = run(balancer, range(3, 6))
    resumed = Balancer("mgda", TASKS, **options)
    resumed.load_state_dict(saved)
    assert all(torch.equal(a, b) for a, b in zip(run(resumed, range(3, 6)), want, strict=True))


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("mgda", {"weight_ema": 1.0}, r"weight_ema=1.0: the share of the past is in \[0, 1\)"),
        ("mgda", {"gradient_ema": -0.1}, "gradient_ema=-0.1"),
        ("mgda", {"weight_floor": 2.0, "weight_cap": 1.0}, "weight_floor=2.0 is above"),
        ("graddrop", {"weight_ema": 0.5}, "'graddrop' has no loss weights"),
        ("graddrop", {"weight_cap": 0.5}, "'graddrop' has no loss weights"),
        ("uw_so", {"gradient_ema": 0.5}, "'uw_so' looks at no task gradients"),
        ("rgw", {"gradient_ema": 0.5}, "'rgw' looks at no task gradients"),
    ],
)
def test_a_wrapper_that_cannot_work_is_refused(
    method: str, options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Balancer(method, TASKS, **options)


def test_averaged_gradients_on_the_features_route(network: Network) -> None:
    balancer = Balancer("mgda", TASKS, gradient_ema=0.5)
    with pytest.raises(ValueError, match="gradient_ema averages gradients of the same parameters"):
        balancer(network.losses(balancer.share(network.trunk(network.example))))


def with_one_call() -> list[str]:
    """Methods that are given one set of losses a step."""
    return [m for m in IDS if equipoise.method(m).needs in ("losses", "gramian", "jacobian")]


def combined(method: Method, rows: Tensor, losses: Tensor, sizes: list[int]) -> Tensor:
    """The method's own direction, tensor by tensor where it weights tensors."""
    if not isinstance(method, GramianMethod) or method.blocks == "model":
        return method.direction(rows, losses)
    parts = rows.split(sizes, dim=1)
    gramians = torch.stack([part @ part.T for part in parts])
    weights = method.weights(gramians, losses.expand(len(parts), -1))
    return torch.cat([w @ part for w, part in zip(weights, parts, strict=True)])


@pytest.mark.parametrize("name", with_one_call())
def test_wrappers_combine_with_every_method(name: str, network: Network) -> None:
    """Bounds, averages, kept weights and logarithms at once: each does what it does alone."""
    method = equipoise.method(name)
    logs: dict[str, Any] = {"transform": "log"} if method.least_loss == "any" else {}
    reads = method.needs == "jacobian" or getattr(method, "reads_gramian", False)
    options = {**logs, "gradient_ema": 0.5} if reads else dict(logs)
    bounded = method.needs != "jacobian" and getattr(method, "blocks", "model") == "model"
    if bounded:
        options |= {"weight_ema": 0.5, "weight_floor": 0.3, "weight_cap": 0.9, "update_every": 2}
    balancer = Balancer(name, TASKS, seed=3, shared=network.trunk, **options)
    alone = Balancer(name, TASKS, seed=3, shared=network.trunk, **logs)
    reference = Balancer(name, TASKS, seed=3).method
    trunk = list(network.trunk.parameters())
    mean, kept = torch.zeros(()), []

    def shifted(step: int) -> dict[str, Tensor]:
        return {task: loss + 1.0 for task, loss in losses_of(network, 1 + step).items()}

    for step in range(3):
        network.zero_grad()
        balancer(shifted(step)).backward()
        values = torch.stack(list(shifted(step).values()))
        seen = values.log() if logs else values
        rows = torch.stack(
            [
                torch.cat([g.flatten() for g in torch.autograd.grad(x, trunk, retain_graph=True)])
                for x in seen
            ]
        )
        mean = rows if step == 0 or not reads else 0.5 * mean + 0.5 * rows
        if not bounded:
            want = combined(reference, mean, seen.detach(), [p.numel() for p in trunk])
            torch.testing.assert_close(flat(network), want)
            continue
        weights = torch.tensor(list(balancer.weights.values()), dtype=torch.float64)
        kept.append(weights)
        torch.testing.assert_close(flat(network), weights @ mean)
        if step == 0:
            alone(shifted(0))
            plain = torch.tensor(list(alone.weights.values()), dtype=torch.float64)
            # The first of the averages is the method's own, within the bounds.
            torch.testing.assert_close(weights, plain.clamp(0.3, 0.9))
        elif step == 1:
            assert torch.equal(weights, kept[0])
        assert bool((weights >= 0.3).all()) and bool((weights <= 0.9).all())


def test_negative_logarithms_are_refused_by_methods_that_take_none(network: Network) -> None:
    losses = losses_of(network, 0.2)
    with pytest.raises(ValueError, match=r"logarithm of loss '\w+' is -.*'famo' needs losses"):
        Balancer("famo", transform="log")(losses)


def test_a_negative_loss_is_named_where_famo_has_no_lower_bound_for_it(network: Network) -> None:
    losses = losses_of(network)
    losses["right"] = losses["right"] - 9
    with pytest.raises(
        ValueError, match=r"'right' is -.*'famo' needs losses that are not negative"
    ):
        Balancer("famo")(losses)
    Balancer("famo", min_losses=-10.0)(losses).backward()
