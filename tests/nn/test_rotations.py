"""RotoGrad's rotations and their use with the features route."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import equipoise
from equipoise import Balancer
from equipoise.nn import Rotations

TASKS = ("a", "b", "c")


@pytest.fixture
def parts() -> tuple[nn.Module, nn.ModuleDict, Tensor, dict[str, Tensor]]:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
    heads = nn.ModuleDict({t: nn.Linear(8, 2) for t in TASKS})
    x = torch.randn(16, 6)
    return trunk, heads, x, {t: torch.randn(16, 2) for t in TASKS}


def losses_of(
    heads: nn.ModuleDict, views: dict[str, Tensor], y: dict[str, Tensor]
) -> dict[str, Tensor]:
    return {t: (heads[t](views[t]) - y[t]).square().mean() for t in TASKS}


def cosine_spread(rows: Tensor) -> float:
    unit = nn.functional.normalize(rows, dim=1)
    return (unit @ unit.T)[tuple(torch.triu_indices(3, 3, 1))].mean().item()


def test_rotations_start_at_the_identity_and_stay_orthogonal(parts: tuple) -> None:
    trunk, heads, x, y = parts
    rotations = Rotations(TASKS, 8)
    features = trunk(x)
    for view in rotations(dict.fromkeys(TASKS, features)).values():
        torch.testing.assert_close(view, features)
    optimizer = torch.optim.Adam(rotations.parameters(), lr=0.05)
    balancer = Balancer("rotograd", TASKS)
    for _ in range(10):
        optimizer.zero_grad()
        views = rotations(balancer.share(trunk(x)))
        balancer(losses_of(heads, views, y)).backward()
        rotations.backward()
        optimizer.step()
    for task in TASKS:
        turn = rotations.rotation(task).detach()
        torch.testing.assert_close(turn @ turn.T, torch.eye(8), atol=1e-5, rtol=0)
        assert (turn - torch.eye(8)).abs().max() > 1e-3


def test_training_the_rotations_aligns_the_task_gradients(parts: tuple) -> None:
    trunk, heads, x, y = parts
    rotations, balancer = Rotations(TASKS, 8), Balancer("rotograd", TASKS)
    optimizer = torch.optim.Adam(rotations.parameters(), lr=0.02)
    seen = []
    for _ in range(60):
        features = trunk(x)
        optimizer.zero_grad()
        views = rotations(balancer.share(features))
        losses = losses_of(heads, views, y)
        balancer(losses).backward()
        seen.append(balancer.metrics()["balance/cos_mean"])
        rotations.backward()
        optimizer.step()
    assert seen[-1] > seen[0] + 0.1


def test_the_objectives_gradient_is_that_of_the_equation(parts: tuple) -> None:
    trunk, heads, x, y = parts
    rotations = Rotations(TASKS, 8).double()
    trunk.double(), heads.double()
    x, y = x.double(), {t: v.double() for t, v in y.items()}
    balancer = Balancer("rotograd", TASKS)
    views = rotations(balancer.share(trunk(x)))
    for view in views.values():
        view.retain_grad()
    losses = losses_of(heads, views, y)
    balancer(losses).backward()
    u = {t: views[t].grad for t in TASKS}
    norms = torch.stack([u[t].norm() for t in TASKS])
    v = sum(norms.mean() / n * u[t] for t, n in zip(TASKS, norms, strict=True)) / 3
    got = rotations.backward()
    torch.testing.assert_close(got, sum((v - u[t]).square().sum() for t in TASKS) / len(x))
    assert all(p.grad is not None for p in rotations.parameters())
    with pytest.raises(RuntimeError, match="no gradient has passed the rotations"):
        rotations.backward()


def test_only_the_first_features_are_rotated(parts: tuple) -> None:
    trunk, _, x, _ = parts
    rotations = Rotations(TASKS, 3)
    rotations.turns["a"].weight = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    features = trunk(x)
    out = rotations({"a": features})["a"]
    torch.testing.assert_close(out[:, 3:], features[:, 3:])
    torch.testing.assert_close(out[:, 0], features[:, 1])


def test_too_few_features() -> None:
    with pytest.raises(ValueError, match="'a' have 2 entries, fewer than the 3"):
        Rotations(["a"], 3)({"a": torch.zeros(1, 2)})
    with pytest.raises(ValueError, match="nothing to rotate"):
        Rotations(["a"], 1)


def test_weighted_gradients_have_one_norm_which_weighs_slow_tasks_more() -> None:
    method = equipoise.method("rotograd", burn_in=1)
    torch.manual_seed(0)
    rows = torch.randn(3, 5, dtype=torch.float64)
    ones = torch.ones(3, dtype=torch.float64)
    weights = method.weights(rows @ rows.T, ones)
    norms = (weights.unsqueeze(1) * rows).norm(dim=1)
    torch.testing.assert_close(norms, rows.norm(dim=1).mean().expand(3))
    # After the burn-in the second step's norms are the reference; then task 0 has become ten times slower.
    method.weights(rows @ rows.T, ones)
    slower = rows * torch.tensor([[10.0], [1.0], [1.0]], dtype=torch.float64)
    common = (method.weights(slower @ slower.T, ones) * slower.norm(dim=1))[0]
    share = torch.tensor([10.0, 1.0, 1.0], dtype=torch.float64) / 12
    torch.testing.assert_close(common, (share * slower.norm(dim=1)).sum())
