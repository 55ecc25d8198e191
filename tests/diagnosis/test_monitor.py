"""The monitor: what it shows is what a slow, obvious computation finds, under every kind of method."""

import math

import pytest
import torch
from torch import nn

from equipoise import Balancer, Monitor

TASKS = ["a", "b", "c"]


def network(seed=0):
    torch.manual_seed(seed)
    trunk = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
    heads = nn.ModuleDict({name: nn.Linear(8, 1) for name in TASKS})
    x, y = torch.randn(16, 4), torch.randn(16, 3)
    return trunk, heads, x, y


def losses_of(trunk, heads, x, y, views=None):
    z = trunk(x)
    return {
        name: (heads[name](views[name] if views else z)[:, 0] - y[:, k]).square().mean() * 10.0**k
        for k, name in enumerate(TASKS)
    }


def slow(losses, trunk):
    rows = [
        torch.cat(
            [
                g.flatten()
                for g in torch.autograd.grad(loss, list(trunk.parameters()), retain_graph=True)
            ]
        )
        for loss in losses.values()
    ]
    return torch.stack(rows).double()


@pytest.mark.parametrize("method", [None, "ew", "uw_so", "cagrad", "graddrop"])
def test_a_look_is_what_single_passes_find(method):
    trunk, heads, x, y = network()
    balancer = None if method is None else Balancer(method, tasks=TASKS, seed=0)
    monitor = Monitor(balancer, every=1)
    optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], lr=1e-3)
    losses = losses_of(trunk, heads, x, y)
    jacobian = slow(losses, trunk)
    monitor(losses)
    total = sum(losses.values()) if balancer is None else balancer(losses)
    total.backward()
    optimizer.step()
    look = monitor.looks[-1]
    assert torch.allclose(look.norms, jacobian.norm(dim=1), rtol=1e-5)
    unit = jacobian / jacobian.norm(dim=1, keepdim=True)
    assert torch.allclose(look.cosines, unit @ unit.T, atol=1e-5)
    assert look.conflict_rate == float((look.pairs < 0).double().mean())

    monitor(losses_of(trunk, heads, x, y))
    look = monitor.looks[0]
    if method == "graddrop":  # it has no weights, and so no shares of them
        assert look.weights is None and look.update_cosine is None
        return
    weights = look.weights
    expected = torch.ones(3).double() if balancer is None else weights
    balanced = expected @ jacobian
    assert torch.allclose(weights, expected)
    shares = expected * (jacobian @ balanced) / balanced.square().sum()
    assert torch.allclose(look.shares, shares, atol=1e-5) and math.isclose(
        float(look.shares.sum()), 1.0, rel_tol=1e-5
    )
    # Plain gradient descent does what the balanced gradient says.
    assert look.update_cosine == pytest.approx(1.0, abs=1e-4)


def test_an_optimiser_that_goes_elsewhere_is_seen():
    trunk, heads, x, y = network()
    balancer = Balancer("ew", tasks=TASKS)
    monitor = Monitor(balancer, every=1)
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=1e-3)
    for _ in range(2):
        losses = losses_of(trunk, heads, x, y)
        monitor(losses)
        balancer(losses).backward()
        optimizer.step()
        optimizer.zero_grad()
    # The first step of Adam is the sign of every entry.
    trunk, heads, x, y = network()
    balanced = slow(losses_of(trunk, heads, x, y), trunk).sum(0)
    expected = torch.cosine_similarity(balanced, balanced.sign(), dim=0)
    assert monitor.looks[0].update_cosine == pytest.approx(float(expected), abs=1e-3)
    assert expected < 0.95


@pytest.mark.parametrize("method", ["uw_o", "mgda"])
def test_gradients_are_the_same_with_and_without(method):
    found = []
    for watched in (False, True):
        trunk, heads, x, y = network()
        balancer = Balancer(method, tasks=TASKS)
        monitor = Monitor(balancer, every=1)
        for _ in range(3):
            views = balancer.share(trunk(x))
            losses = {
                name: (heads[name](views[name])[:, 0] - y[:, k]).square().mean()
                for k, name in enumerate(TASKS)
            }
            if watched:
                monitor(losses)
            balancer(losses).backward()
        found.append([p.grad.clone() for p in [*trunk.parameters(), *heads.parameters()]])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert len(monitor.looks) == 3 and monitor.looks[0].norms.gt(0).all()


def test_only_every_nth_step_costs_a_look():
    trunk, heads, x, y = network()
    monitor = Monitor(every=3)
    for _ in range(7):
        monitor(losses_of(trunk, heads, x, y))
    assert [look.step for look in monitor.looks] == [0, 3, 6]


def test_a_task_that_never_comes_is_told():
    trunk, heads, x, y = network()
    monitor = Monitor(Balancer("ew", tasks=[*TASKS, "never"]), every=100)
    with pytest.warns(UserWarning, match=r"task 'never' was in none of 500 steps"):
        for _ in range(500):
            monitor(losses_of(trunk, heads, x, y))


def test_a_task_without_a_part_in_the_update_is_told():
    trunk, heads, x, y = network()
    balancer = Balancer("scalarization", tasks=TASKS, weights=[1.0, 0.0, 1.0])
    monitor = Monitor(balancer, every=1)
    with pytest.warns(UserWarning, match=r"task 'b' has had no part in the update"):
        for _ in range(7):
            losses = losses_of(trunk, heads, x, y)
            monitor(losses)
            balancer(losses).backward()
    assert "task 'b' has had no part" in str(monitor)


def test_metrics_are_flat_numbers():
    trunk, heads, x, y = network()
    balancer = Balancer("uw_o", tasks=TASKS)
    monitor = Monitor(balancer, every=1)
    assert monitor.metrics() == {} and str(monitor) == "no look yet"
    for _ in range(2):
        losses = losses_of(trunk, heads, x, y)
        monitor(losses)
        balancer(losses).backward()
    found = monitor.metrics()
    assert {"monitor/grad_norm/a", "monitor/cos_min", "monitor/magnitude_similarity"} <= set(found)
    assert {"monitor/share/a", "monitor/drift/a"} <= set(found), (
        "also where every step is looked at"
    )
    assert all(isinstance(value, float) for value in found.values())


def test_means_are_over_the_looks():
    trunk, heads, x, y = network()
    monitor = Monitor(every=1)
    optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], lr=1e-3)
    assert monitor.means() == {}
    for _ in range(4):
        losses = losses_of(trunk, heads, x, y)
        monitor(losses)
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    means = monitor.means("")
    assert means["cos_mean"] == pytest.approx(
        sum(float(look.pairs.mean()) for look in monitor.looks) / 4
    )
    # What became of the last look is not known yet: the mean is over the other three.
    assert means["share/a"] == pytest.approx(
        sum(float(look.shares[0]) for look in [*monitor.looks][:3]) / 3
    )
    assert set(means) == set(monitor.metrics("")) and "mean of 4" in str(monitor)


def test_a_step_with_one_task_is_passed_over():
    trunk, heads, x, y = network()
    monitor = Monitor(every=3)
    for step in range(8):
        losses = losses_of(trunk, heads, x, y)
        # Both tasks are in steps 1, 3, 5 and 7 only.
        monitor(losses if step % 2 else {"a": losses["a"]})
    assert [look.step for look in monitor.looks] == [1, 3, 7]


def test_a_run_without_two_tasks_in_a_step_says_so():
    trunk, heads, x, y = network()
    monitor = Monitor(every=1)
    for name in ("a", "b", "a"):
        monitor({name: losses_of(trunk, heads, x, y)[name]})
    assert "none of 3 steps had losses of two tasks at once" in str(monitor)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="every=0"):
        Monitor(every=0)
    trunk, heads, x, y = network()
    with pytest.raises(ValueError, match="loss 'c' belongs to no task"):
        Monitor(tasks=["a", "b"])(losses_of(trunk, heads, x, y))
