"""What can be put around any method."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

import equipoise
from equipoise import Balancer
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


@pytest.mark.parametrize("method", IDS)
def test_wrappers_combine_with_every_method(method: str, network: Network) -> None:
    kind = equipoise.method(method).needs
    if kind not in ("losses", "gramian", "jacobian"):
        pytest.skip("has an interface of its own")
    options: dict[str, object] = {}
    # Methods that take a logarithm or an inverse of the losses need losses whose logarithm is positive.
    if equipoise.method(method).least_loss == "any":
        options["transform"] = "log"
    if kind != "jacobian" and getattr(equipoise.method(method), "blocks", "model") == "model":
        options |= {"weight_ema": 0.5, "weight_floor": 1e-3, "weight_cap": 1e3, "update_every": 2}
    if kind == "jacobian" or getattr(equipoise.method(method), "reads_gramian", False):
        options["gradient_ema"] = 0.5
    balancer = Balancer(method, TASKS, **options)
    for step in range(3):
        network.zero_grad()
        losses = {name: loss + 1.0 for name, loss in losses_of(network, 1 + step).items()}
        balancer(losses).backward()
        assert flat(network).isfinite().all()


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
