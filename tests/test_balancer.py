"""What the balancer promises besides gradients."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn

import equipoise
from equipoise import Balancer
from networks import TASKS, Network, build, plain_views

IDS = [card.id for card in equipoise.methods()]


def losses_of(network: Network) -> dict[str, Tensor]:
    return network.losses(plain_views(network.trunk(network.example)))


@pytest.fixture
def network() -> Network:
    return build("mlp")


# --- values, weights, metrics ---------------------------------------------------------------------


def test_equal_weighting_is_the_plain_sum(network: Network) -> None:
    losses = losses_of(network)
    torch.testing.assert_close(Balancer("ew")(losses), sum(losses.values()))


def test_the_scalar_is_the_weighted_sum_and_weights_are_those_applied(network: Network) -> None:
    losses = losses_of(network)
    balancer = Balancer("uw_o", prior={"left": 2.0}, weight_sum="one")
    total = balancer(losses)
    weights = balancer.weights
    assert sum(weights.values()) == pytest.approx(1.0)
    assert total.item() == pytest.approx(sum(weights[t] * losses[t].item() for t in TASKS))
    # applied, by definition: the derivative of the scalar with respect to each loss
    derivatives = torch.autograd.grad(total, list(losses.values()))
    assert [d.item() for d in derivatives] == pytest.approx([weights[t] for t in TASKS])


def test_prior_multiplies_the_weights_of_the_method(network: Network) -> None:
    balancer = Balancer("uw_o", prior={"right": 3.0, "rebuild": lambda step: 1.0 + step})
    for step in range(3):
        losses = losses_of(network)
        balancer(losses)
        assert balancer.weights["left"] == pytest.approx(1 / losses["left"].item(), rel=1e-6)
        assert balancer.weights["right"] == pytest.approx(3 / losses["right"].item(), rel=1e-6)
        expected = (1 + step) / losses["rebuild"].item()
        assert balancer.weights["rebuild"] == pytest.approx(expected, rel=1e-6)


def test_weight_sum_scales_to_tasks_or_to_one(network: Network) -> None:
    for kind, total in (("tasks", 3.0), ("one", 1.0)):
        balancer = Balancer("uw_o", weight_sum=kind)
        balancer(losses_of(network))
        assert sum(balancer.weights.values()) == pytest.approx(total)


def test_metrics_are_flat_numbers_with_raw_losses_norms_and_cosines(network: Network) -> None:
    balancer = Balancer("mgda", TASKS)
    losses = losses_of(network)
    balancer(losses).backward()
    metrics = balancer.metrics()
    assert all(isinstance(v, float) for v in metrics.values())
    assert metrics["balance/loss/left"] == pytest.approx(losses["left"].item())
    gradient = torch.autograd.grad(losses_of(network)["left"], list(network.trunk.parameters()))
    norm = torch.cat([g.flatten() for g in gradient]).norm().item()
    assert metrics["balance/grad_norm/left"] == pytest.approx(norm)
    assert -1 <= metrics["balance/cos_min"] <= metrics["balance/cos_mean"] <= 1
    assert 0 <= metrics["balance/conflict_rate"] <= 1
    assert set(balancer.metrics(prefix="")) == {k.removeprefix("balance/") for k in metrics}


def test_raw_total_is_the_unweighted_sum(network: Network) -> None:
    balancer = Balancer("rlw")
    losses = losses_of(network)
    balancer(losses)
    torch.testing.assert_close(balancer.raw_total, sum(losses.values()).detach())
    assert not balancer.raw_total.requires_grad


def test_explain_names_method_tasks_route_and_shared_parameters(network: Network) -> None:
    balancer = Balancer("pcgrad", TASKS, prior={"left": 2.0})
    before = balancer.explain()
    balancer(losses_of(network)).backward()
    after = balancer.explain()
    entries = sum(p.numel() for p in network.trunk.parameters())
    assert "PCGrad" in before and "left, right, rebuild" in before
    assert f"{entries:,} entries" in after and "3 backward passes" in after
    assert "plain loss" in after and "left 2" in after


# --- tasks that come and go -----------------------------------------------------------------------


@pytest.mark.parametrize("absent", [{}, {"rebuild": None}], ids=["missing", "none"])
@pytest.mark.parametrize("method", ["uw_o", "mgda", "pcgrad", "graddrop", "rgw"])
def test_an_absent_task_is_left_out_of_the_balance(
    method: str, absent: dict[str, None], network: Network
) -> None:
    def two() -> dict[str, Tensor]:
        losses = losses_of(network)
        del losses["rebuild"]
        return losses

    torch.manual_seed(0)
    of_three = Balancer(method, TASKS)
    of_three({**two(), **absent}).backward()
    got = network.trunk[0].weight.grad.clone()
    assert network.heads["rebuild"].weight.grad is None
    assert "rebuild" not in of_three.weights
    network.zero_grad()
    torch.manual_seed(0)
    Balancer(method, ["left", "right"])(two()).backward()
    torch.testing.assert_close(got, network.trunk[0].weight.grad)


def test_the_state_of_an_absent_task_stays_untouched(network: Network) -> None:
    balancer = Balancer("uw", TASKS, self_optimized=0.1)
    balancer(losses_of(network))
    before = next(balancer.method.parameters()).detach().clone()
    losses = losses_of(network)
    del losses["left"]
    for _ in range(3):
        balancer(losses)
    after = next(balancer.method.parameters()).detach()
    assert after[1] != before[1] and after[2] != before[2]


def test_losses_by_position_may_leave_out_a_task_with_none() -> None:
    p = nn.Parameter(torch.tensor([1.0, 2.0]))
    balancer = Balancer("ew", 3)
    assert balancer([p[0] * 2, None, p[1]]).item() == pytest.approx(4.0)
    assert set(balancer.weights) == {"0", "2"}


def test_numbered_tasks_get_their_views_in_order(network: Network) -> None:
    balancer = Balancer("mgda", 2)
    first, second = balancer.share(network.trunk(network.example))
    balancer([network.heads["left"](first).square().mean(), second.square().mean()]).backward()
    assert network.trunk[0].weight.grad is not None


def test_a_stacked_tensor_is_taken_by_methods_that_look_at_losses(network: Network) -> None:
    stacked = torch.stack(list(losses_of(network).values()))
    assert Balancer("gls")(stacked).requires_grad


# --- learnable weights ----------------------------------------------------------------------------


def test_learnable_weights_train_through_the_users_optimizer(network: Network) -> None:
    balancer = Balancer("uw", TASKS)
    groups = balancer.param_groups(lr=0.5)
    assert groups[0]["weight_decay"] == 0.0 and groups[0]["lr"] == 0.5
    optimizer = torch.optim.SGD([{"params": network.parameters()}, *groups], lr=0.01)
    before = groups[0]["params"][0].detach().clone()
    balancer(losses_of(network)).backward()
    optimizer.step()
    assert not torch.equal(before, groups[0]["params"][0])


def test_methods_without_learnable_weights_have_no_groups() -> None:
    assert Balancer("ew").param_groups(lr=1.0) == []


def test_self_optimized_weights_equal_those_of_adam_outside(network: Network) -> None:
    own, given = Balancer("uw", TASKS, self_optimized=0.05), Balancer("uw", TASKS)
    optimizer = torch.optim.Adam(given.param_groups(), lr=0.05)
    for _ in range(4):
        own(losses_of(network))
        optimizer.zero_grad()
        given(losses_of(network)).backward()
        optimizer.step()
    torch.testing.assert_close(list(own.method.parameters()), list(given.method.parameters()))
    assert own.param_groups() == []


def test_forgotten_learnable_weights_are_told_of(network: Network) -> None:
    balancer = Balancer("uw", TASKS)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    with pytest.warns(UserWarning, match=r"'uw' have not moved.*param_groups"):
        for _ in range(6):
            optimizer.zero_grad()
            balancer(losses_of(network)).backward()
            optimizer.step()


def test_accumulation_is_not_taken_for_forgetting(network: Network) -> None:
    balancer = Balancer("uw", TASKS)
    optimizer = torch.optim.SGD([{"params": network.parameters()}, *balancer.param_groups()], 0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in range(20):
            balancer(losses_of(network)).backward()
            if call % 8 == 7:
                optimizer.step()
                optimizer.zero_grad()


def test_learnable_weights_need_the_tasks_before_the_optimizer() -> None:
    with pytest.raises(ValueError, match=r"'uw' learns.*tasks="):
        Balancer("uw").param_groups()


# --- evaluation, freezing, saving -----------------------------------------------------------------


def test_eval_is_the_prior_weighted_sum_and_changes_nothing(network: Network) -> None:
    balancer = Balancer("dwa", prior={"left": 5.0})
    balancer(losses_of(network))
    before = repr(balancer.state_dict())
    balancer.eval()
    with torch.no_grad():
        losses = losses_of(network)
        want = 5 * losses["left"] + losses["right"] + losses["rebuild"]
        torch.testing.assert_close(balancer(losses), want)
        views = balancer.share(network.trunk(network.example))
    assert set(views) == set(TASKS)
    assert repr(balancer.state_dict()) == before


def test_frozen_keeps_the_weights_of_the_last_step(network: Network) -> None:
    balancer = Balancer("rlw")
    with pytest.raises(RuntimeError, match="before the first step"), balancer.frozen():
        pass
    balancer(losses_of(network))
    kept = balancer.weights
    with balancer.frozen():
        for _ in range(3):
            balancer(losses_of(network))
            assert balancer.weights == kept
    balancer(losses_of(network))
    assert balancer.weights != kept


@pytest.mark.parametrize("method", ["mgda", "rlw", "cagrad"])
def test_update_every_reuses_the_weights_in_between(method: str, network: Network) -> None:
    balancer = Balancer(method, TASKS, update_every=3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    seen = []
    for _ in range(7):
        optimizer.zero_grad()
        balancer(losses_of(network)).backward()
        optimizer.step()
        seen.append(tuple(balancer.weights.values()))
    assert seen[0] == seen[1] == seen[2] != seen[3]
    assert seen[3] == seen[4] == seen[5] != seen[6]


def _train(
    network: Network, balancer: Balancer, steps: range, route: str
) -> tuple[list[float], list[Tensor]]:
    parameters = [*network.parameters(), *(p for g in balancer.param_groups() for p in g["params"])]
    totals = []
    for step in steps:
        features = network.trunk(network.example * (1 + 0.1 * step))
        views = balancer.share(features) if route == "features" else plain_views(features)
        losses = network.losses(views)
        if step % 3 == 1 and balancer.method.needs != "jacobian":
            del losses["right"]
        total = balancer(losses)
        for p in parameters:
            p.grad = None
        total.backward()
        with torch.no_grad():
            for p in parameters:
                if p.grad is not None:
                    p -= 0.05 * p.grad
        balancer.after_step(
            lambda step=step: network.losses(
                plain_views(network.trunk(network.example * (1 + 0.1 * step)))
            )
        )
        if step % 2:
            balancer.end_epoch()
        totals.append(total.item())
    return totals, [p.detach().clone() for p in parameters]


def _resumable() -> list[tuple[str, str]]:
    """Methods that have one call a step, with their routes in turn; both for one of each kind."""
    pairs = []
    for number, method in enumerate(IDS):
        made = equipoise.method(method)
        if made.needs not in ("losses", "gramian", "jacobian"):
            continue
        routes = ("parameters", "features") if made.needs == "losses" else made.routes
        both = method in ("uw", "rlw", "rgw", "mgda", "pcgrad", "nash_mtl", "graddrop")
        chosen = routes if both else (routes[number % len(routes)],)
        pairs += [(method, route) for route in chosen]
    return pairs


@pytest.mark.parametrize(("method", "route"), _resumable())
def test_resuming_is_bit_identical_to_not_stopping(method: str, route: str) -> None:
    torch.manual_seed(3)
    network, balancer = build("cnn"), Balancer(method, TASKS)
    _train(network, balancer, range(5), route)
    saved = copy.deepcopy((network.state_dict(), balancer.state_dict()))
    want = _train(network, balancer, range(5, 9), route)
    torch.manual_seed(77)
    again, resumed = build("cnn", seed=5), Balancer(method, TASKS)
    again.example = network.example
    again.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    got = _train(again, resumed, range(5, 9), route)
    assert got[0] == want[0]
    for a, b in zip(got[1], want[1], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("method", ["uw", "dwa", "rlw", "mgda"])
def test_state_can_be_loaded_from_a_file_before_the_first_step(
    method: str, network: Network, tmp_path: object
) -> None:
    balancer = Balancer(method, TASKS)
    balancer(losses_of(network)).backward()
    path = f"{tmp_path}/balancer.pt"
    torch.save(balancer.state_dict(), path)
    fresh = Balancer(method)
    fresh.load_state_dict(torch.load(path, weights_only=True))
    assert fresh.tasks == TASKS
    assert fresh(losses_of(network)).item() == balancer(losses_of(network)).item()


def test_two_balancers_do_not_interact(network: Network) -> None:
    a, b = Balancer("rlw", seed=1), Balancer("rlw", seed=1)
    first = [a(losses_of(network)).item() for _ in range(3)]
    for _ in range(3):
        Balancer("rlw", seed=9)(losses_of(network))
    assert [b(losses_of(network)).item() for _ in range(3)] == first


def test_after_step_leaves_batchnorm_and_generators_as_they_were() -> None:
    network = build("cnn")
    balancer = Balancer("famo", TASKS)
    balancer(losses_of(network)).backward()
    before = copy.deepcopy(network.state_dict())
    generator = torch.get_rng_state()

    def closure() -> dict[str, Tensor]:
        torch.randn(3)
        return losses_of(network)

    balancer.after_step(closure)
    torch.testing.assert_close(network.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), generator)


def test_several_steps_of_training_reduce_the_losses() -> None:
    for method in IDS:
        if equipoise.method(method).needs not in ("losses", "gramian", "jacobian"):
            continue
        network, balancer = build("mlp"), Balancer(method, TASKS, weight_sum="paper", seed=0)
        optimizer = torch.optim.Adam(
            [{"params": network.parameters()}, *balancer.param_groups()], lr=0.01
        )
        before = sum(losses_of(network).values()).item()
        for _ in range(20):
            optimizer.zero_grad()
            balancer(losses_of(network)).backward()
            optimizer.step()
            balancer.after_step(lambda network=network: losses_of(network))
        assert sum(losses_of(network).values()).item() < before, method
