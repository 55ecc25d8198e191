"""Methods that learn loss weights on validation losses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from equipoise import Balancer
from equipoise.methods.auto_lambda import AutoLambda
from equipoise.methods.forum import FORUM
from equipoise.methods.moml import MOML
from equipoise.solvers.bounded_descent import bounded_descent
from equipoise.solvers.min_norm import min_norm
from networks import TASKS, Network, build, plain_views

METHODS = ["moml", "auto_lambda", "forum"]


def on(network: Network, scale: float) -> dict[str, Tensor]:
    return network.losses(plain_views(network.trunk(network.example * scale)))


@pytest.fixture
def network() -> Network:
    return build("cnn")


def finite_difference(network: Network, w: Tensor, rate: float) -> Tensor:
    """How each outer loss after a virtual step depends on each weight, by central differences."""
    network = copy.deepcopy(network)
    start = copy.deepcopy(network.state_dict())

    def outer_after(weights: Tensor) -> Tensor:
        network.load_state_dict(start)
        inner = on(network, 1.0)
        total = sum(x * y for x, y in zip(weights, inner.values(), strict=True))
        parameters = list(network.parameters())
        slopes = torch.autograd.grad(total, parameters)
        with torch.no_grad():
            for p, g in zip(parameters, slopes, strict=True):
                p -= rate * g
        return torch.stack([x.detach() for x in on(network, 1.3).values()])

    eps = 1e-5
    columns = []
    for i in range(len(w)):
        step = torch.zeros_like(w)
        step[i] = eps
        columns.append((outer_after(w + step) - outer_after(w - step)) / (2 * eps))
    return torch.stack(columns)


@pytest.mark.parametrize("method", ["moml", "auto_lambda"])
def test_the_meta_gradient_is_that_of_finite_differences(method: str, network: Network) -> None:
    balancer = Balancer(method, TASKS, inner_rate=0.05)
    seen: list[Tensor] = []
    balancer.method.learn = seen.append  # type: ignore[method-assign]
    w = balancer.method.weights(torch.zeros(3, dtype=torch.float64))
    want = finite_difference(network, w, 0.05)
    balancer.bilevel(lambda: on(network, 1.0), lambda: on(network, 1.3))
    torch.testing.assert_close(-0.05 * seen[0], want, rtol=1e-5, atol=1e-8)


def test_auto_lambda_takes_the_adam_step_on_the_primary_tasks_gradient() -> None:
    cross = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    method = AutoLambda(lr=0.01, inner_rate=0.5, primary=[0, 2])
    w = torch.nn.Parameter(torch.full((3,), 0.1, dtype=torch.float64))
    adam = torch.optim.Adam([w], lr=0.01)
    for _ in range(3):
        method.learn(cross)
        w.grad = -0.5 * (cross[:, 0] + cross[:, 2])
        adam.step()
    torch.testing.assert_close(method.lambda_, w.detach())


def test_moml_descends_along_the_min_norm_meta_gradient() -> None:
    cross = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    alpha = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    rows = [
        torch.autograd.grad(-0.1 * alpha.softmax(0) @ cross[:, j], alpha, retain_graph=True)[0]
        for j in range(3)
    ]
    meta = torch.stack(rows)
    unit = meta / meta.norm(dim=1, keepdim=True)
    method = MOML(lr=1.0)
    moved: list[Tensor] = []
    method.adam = lambda gradient, lr: moved.append(gradient) or -gradient  # type: ignore
    method.learn(cross)
    gamma = min_norm(unit @ unit.T).x
    torch.testing.assert_close(moved[0], gamma @ meta)


def forum_dual(
    x: Tensor, gramian: Tensor, gap: Tensor, square: Tensor, phi: float
) -> tuple[Tensor, Tensor]:
    nu = (phi - gap @ x / square).clamp_min(0)
    value = 0.5 * x @ gramian @ x + nu * (gap @ x) + 0.5 * nu**2 * square - nu * phi * square
    return value, nu


@pytest.mark.parametrize("seed", range(5))
def test_forums_weights_minimise_its_dual(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.nn.functional.normalize(
        torch.randn(3, 6, dtype=torch.float64, generator=generator), dim=1
    )
    q = torch.randn(6, dtype=torch.float64, generator=generator)
    gramian, gap, square = rows @ rows.T, rows @ q, q @ q
    best = bounded_descent(gramian, gap, square, 0.1).x
    value, _ = forum_dual(best, gramian, gap, square, 0.1)
    tries = torch.distributions.Dirichlet(torch.ones(3, dtype=torch.float64)).sample((4000,))
    for x in tries:
        assert forum_dual(x, gramian, gap, square, 0.1)[0] >= value - 1e-12


def test_forum_descends_on_every_outer_loss_or_shrinks_the_gap(network: Network) -> None:
    """The direction of its first step has the paper's rate on the gap: <grad q, d> >= phi |grad q|^2."""
    balancer = Balancer("forum", TASKS)
    method = balancer.method
    assert isinstance(method, FORUM)
    noted: list[tuple[Tensor, ...]] = []
    mix = method.mix

    def spy(gramian: Tensor, gap: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
        out = mix(gramian, gap, square)
        noted.append((gramian, gap, square, *out))
        return out

    method.mix = spy  # type: ignore[method-assign]
    balancer.bilevel(lambda: on(network, 1.0), lambda: on(network, 1.3)).backward()
    _, gap, square, mean, nu = noted[0]
    assert gap @ mean + nu * square >= method.phi * square - 1e-12
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_looking_ahead_leaves_parameters_statistics_and_generators_alone(
    method: str, network: Network
) -> None:
    balancer = Balancer(method, TASKS)
    parameters = {n: p.clone() for n, p in network.named_parameters()}
    calls: list[float] = []
    generator = torch.get_rng_state()

    def counted(scale: float) -> dict[str, Tensor]:
        calls.append(scale)
        return on(network, scale)

    balancer.bilevel(lambda: counted(1.0), lambda: counted(1.3)).backward()
    assert calls.count(1.3) == 1
    for name, p in network.named_parameters():
        assert torch.equal(p, parameters[name])
    assert torch.equal(generator, torch.get_rng_state())
    once = build("cnn")
    on(once, 1.0)
    for name, buffer in network.named_buffers():
        torch.testing.assert_close(buffer, once.get_buffer(name))


# FORUM moves its weights only where inner and outer losses pull apart.
@pytest.mark.parametrize(
    ("method", "outer"), [("moml", 1.1), ("auto_lambda", 1.1), ("forum", -0.5)]
)
def test_fifty_steps_train_and_move_the_weights(
    method: str, outer: float, network: Network
) -> None:
    balancer = Balancer(method, TASKS, lr=0.05)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    before = sum(on(network, outer).values()).item()
    first = None
    for _ in range(50):
        optimizer.zero_grad()
        balancer.bilevel(lambda: on(network, 1.0), lambda: on(network, outer)).backward()
        optimizer.step()
        first = first or balancer.weights
    assert sum(on(network, outer).values()).item() < before
    assert balancer.weights != first


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_bilevel_balancer_resumes_bit_for_bit(method: str, network: Network) -> None:
    def run(network: Network, balancer: Balancer, steps: int) -> list[float]:
        totals = []
        for _ in range(steps):
            network.zero_grad()
            total = balancer.bilevel(lambda: on(network, 1.0), lambda: on(network, 1.3))
            total.backward()
            with torch.no_grad():
                for p in network.parameters():
                    p -= 0.05 * p.grad
            totals.append(total.item())
        return totals

    balancer = Balancer(method, TASKS, lr=0.1)
    run(network, balancer, 3)
    saved = copy.deepcopy((network.state_dict(), balancer.state_dict()))
    want = run(network, balancer, 3)
    other, resumed = build("cnn", seed=4), Balancer(method, TASKS, lr=0.1)
    other.example = network.example
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    assert run(other, resumed, 3) == want


def test_bilevel_with_a_method_that_has_no_outer_losses(network: Network) -> None:
    with pytest.raises(TypeError, match="'ew' learns nothing on outer losses"):
        Balancer("ew").bilevel(lambda: on(network, 1.0), lambda: on(network, 1.0))


def test_bilevel_with_an_absent_task(network: Network) -> None:
    losses = on(network, 1.0)
    del losses["left"]
    with pytest.raises(ValueError, match="'moml' needs the losses of all tasks"):
        Balancer("moml", TASKS).bilevel(lambda: losses, lambda: on(network, 1.0))
