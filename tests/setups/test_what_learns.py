"""Weights that are learned do learn, in every set-up; what would never learn is told of."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from one_by_one import (
    TASKS,
    Model,
    assert_left,
    balancer_of,
    clear,
    flat,
    grad_or_zero,
    method_of,
    run,
    step_of,
)
from torch import Tensor

from equipoise import Balancer, SolverError
from equipoise.methods.base import Card, LossMethod

LEARNED = ("uw", "imtl_l")
WAYS = [
    *(("weighted", "losses", call) for call in ("scalar", "backward", "uphill")),
    *(("unweighted", "parameters", call) for call in ("scalar", "backward", "uphill")),
    *(("unweighted", "features", call) for call in ("scalar", "backward")),
]
every_way = pytest.mark.parametrize(("heads", "route", "call"), WAYS)


def step(balancer: Any, model: Model, route: str, call: Any) -> None:
    if call == "uphill":
        balancer.sharpness_aware(model.plain, rho=0.01, local=0.0).backward()
    else:
        step_of(balancer, model, route, call)


def slope(method: Any, model: Model, prior: Tensor) -> Tensor:
    """Of the objective the weights are trained on, the losses constant."""
    values = torch.stack([loss.detach() for loss in model.plain().values()])
    method.begin(len(TASKS))
    method.to(values)
    (s,) = method.parameters()
    objective = (prior * (method.weights(values) * values + method.penalty())).sum()
    return torch.autograd.grad(objective, s)[0]


@pytest.mark.parametrize("prior", [{}, {"a": 3.0}], ids=["plain", "prior"])
@every_way
@pytest.mark.parametrize("method", LEARNED)
def test_learned_weights_get_the_gradient_of_their_objective(
    method: str, heads: Any, route: str, call: str, prior: dict[str, float]
) -> None:
    model = Model()
    balancer = balancer_of(method, heads=heads, prior=prior)
    (learned,) = balancer.param_groups()[0]["params"]
    step(balancer, model, route, call)
    want = slope(method_of(method), model, torch.tensor([prior.get(t, 1.0) for t in TASKS]))
    assert learned.grad is not None
    torch.testing.assert_close(learned.grad.double(), want.double(), rtol=1e-5, atol=1e-7)


@every_way
@pytest.mark.parametrize("method", LEARNED)
def test_weights_the_balancer_steps_move_in_every_set_up(
    method: str, heads: Any, route: str, call: str
) -> None:
    model = Model()
    balancer = balancer_of(method, heads=heads, self_optimized=0.05)
    reference, (s,) = method_of(method), [None]
    reference.begin(len(TASKS))
    (s,) = reference.parameters()
    adam = torch.optim.Adam([s], lr=0.05)
    for _ in range(3):
        values = torch.stack([loss.detach() for loss in model.plain().values()])
        want = reference.weights(values).detach()
        step(balancer, model, route, call)
        got = torch.tensor(list(balancer.weights.values()))
        torch.testing.assert_close(got.double(), want.double(), rtol=1e-5, atol=1e-7)
        s.grad = slope_at(reference, s, values)
        adam.step()


def slope_at(method: Any, s: Tensor, values: Tensor) -> Tensor:
    objective = (method.weights(values) * values + method.penalty()).sum()
    return torch.autograd.grad(objective, s)[0]


@every_way
@pytest.mark.parametrize("method", LEARNED)
def test_forgotten_weights_are_told_of_in_every_set_up(
    method: str, heads: Any, route: str, call: str
) -> None:
    model = Model()
    balancer = balancer_of(method, heads=heads)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    with pytest.warns(UserWarning, match="have not moved"):
        for _ in range(6):
            optimizer.zero_grad()
            step(balancer, model, route, call)
            optimizer.step()


# --- methods that learn on other losses -----------------------------------------------------------


@pytest.mark.parametrize("method", ["moml", "auto_lambda", "forum"])
def test_a_method_that_needs_validation_losses_does_not_do_without_silently(method: str) -> None:
    """Called with training losses alone its weights would stay where they begin."""
    model, balancer = Model(), balancer_of(method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((UserWarning, RuntimeError, TypeError, ValueError), match="bilevel"):
            for _ in range(5):
                run(balancer, model.plain())


@pytest.mark.parametrize("method", ["moml", "auto_lambda"])
def test_transformed_losses_are_what_the_weights_are_learned_on(method: str) -> None:
    """Taking logarithms by hand is the same as asking for them."""
    seen = []
    for by_hand in (False, True):
        model = Model()
        balancer = balancer_of(method, lr=0.1, transform="none" if by_hand else "log")

        def losses(
            factor: float, model: Model = model, by_hand: bool = by_hand
        ) -> dict[str, Tensor]:
            raw = model.by_views(dict.fromkeys(TASKS, model.trunk(factor * model.x)))
            above = {t: 2 + x for t, x in raw.items()}
            return {t: x.log() for t, x in above.items()} if by_hand else above

        for _ in range(4):
            clear(model.parameters())
            balancer.bilevel(lambda: losses(1.0), lambda: losses(1.5)).backward()
        seen.append(torch.tensor(list(balancer.weights.values())))
    torch.testing.assert_close(*seen, rtol=1e-9, atol=1e-12)
    assert len(set(seen[0].tolist())) > 1


# --- a solver that fails --------------------------------------------------------------------------


def fail(*arguments: Any) -> Tensor:
    raise SolverError("stopped", torch.eye(3), torch.tensor(1.0))


@pytest.mark.parametrize("call", ["scalar", "backward"])
def test_a_failed_solver_keeps_the_weights_of_every_block(call: Any) -> None:
    model = Model()
    trunk = list(model.trunk.parameters())
    balancer = balancer_of("mgda", blocks="parameter", on_failure="keep")
    losses = model.plain()
    kept = []
    for p in trunk:
        rows = torch.stack([flat(grad_or_zero(x, [p])) for x in losses.values()])
        values = torch.stack([x.detach() for x in losses.values()])
        kept.append(method_of("mgda").weights(rows @ rows.T, values))
    step_of(balancer, model, "parameters", call)
    clear(model.parameters())
    model.x = model.x * 1.5
    balancer.method.weights = fail
    step_of(balancer, model, "parameters", call)
    losses, want = model.plain(), {}
    for p, weights in zip(trunk, kept, strict=True):
        rows = [grad_or_zero(x, [p])[0] for x in losses.values()]
        want[p] = sum(w * g for w, g in zip(weights, rows, strict=True))
    plain = sum(losses.values())
    heads = list(model.heads.parameters())
    want.update(zip(heads, torch.autograd.grad(plain, heads), strict=True))
    assert_left(want, 1e-9)
    assert balancer.metrics()["balance/solver_failures"] >= 1


def test_a_solver_that_fails_in_the_first_step_is_not_papered_over() -> None:
    for blocks in ("model", "parameter"):
        balancer = balancer_of("mgda", blocks=blocks, on_failure="keep")
        balancer.method.weights = fail
        with pytest.raises(SolverError):
            run(balancer, Model().plain())


class _Two(LossMethod):
    """A method of one's own, with two learned numbers a task."""

    card = Card(
        id="two",
        name="Two",
        equation="w",
        heads="weighted",
        weight_sum="",
        degree=0.0,
        unit_free=False,
    )
    learns = True

    def begin(self, tasks: int) -> None:
        self.a = torch.nn.Parameter(torch.zeros(tasks))
        self.b = torch.nn.Parameter(torch.zeros(2, tasks))

    def weights(self, losses: Tensor) -> Tensor:
        return torch.exp(-self.a - self.b.sum(0)).to(losses)

    def penalty(self) -> Tensor:
        return self.a + self.b.sum(0)


def test_several_learned_tensors_are_stepped_here_and_saved() -> None:
    model, balancer = Model(), Balancer(_Two(), TASKS, self_optimized=0.1)
    for _ in range(3):
        balancer(model.plain())
    again = Balancer(_Two(), self_optimized=0.1)
    again.load_state_dict(balancer.state_dict())
    for other in (balancer, again):
        other(model.plain())
    for name, value in balancer.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert all(bool((p != 0).all()) for p in balancer.method.parameters())
