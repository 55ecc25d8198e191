"""Where loss methods meet: limits, fixed points, and what random weights have in common."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import equipoise
from equipoise.methods.base import LossMethod
from equipoise.methods.catalogue import find
from equipoise.methods.famo import FAMO
from equipoise.methods.random_weights import RandomWeights

some = settings(max_examples=25, deadline=None, derandomize=True)
vectors = st.lists(st.floats(0.05, 20), min_size=1, max_size=6).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


def weights(name: str, losses: Tensor, **options: Any) -> Tensor:
    """The weights of a fresh method at its first step."""
    return cast(LossMethod, equipoise.method(name, **options)).weights(losses).detach()


def learned(name: str, losses: Tensor, **options: Any) -> Tensor:
    """The weights after the method's own numbers have converged on fixed losses."""
    method = cast(LossMethod, equipoise.method(name, **options))
    method.begin(losses.shape[0])
    method.double()
    optimizer = torch.optim.LBFGS(method.parameters(), max_iter=500, tolerance_change=1e-14)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = (method.weights(losses) * losses).sum()
        penalty = method.penalty()
        assert penalty is not None
        (value := value + penalty.sum()).backward()
        return value

    for _ in range(3):
        optimizer.step(closure)
    return method.weights(losses).detach()


close = torch.testing.assert_close


@some
@given(losses=vectors)
def test_uw_o_is_the_log_sum_in_gradient(losses: Tensor) -> None:
    x = losses.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(x.log().sum(), x)
    close(weights("uw_o", losses, eps=0.0), gradient)
    close(weights("si", losses), gradient)


@some
@given(losses=vectors)
def test_gls_has_the_direction_of_uw_o(losses: Tensor) -> None:
    ratio = weights("gls", losses) / weights("uw_o", losses, eps=0.0)
    close(ratio, torch.full_like(losses, losses.log().mean().exp().item() / losses.shape[0]))


@pytest.mark.parametrize("start", [-1.0, 0.0, 0.7])
def test_imtl_l_converges_to_uw_o(start: float) -> None:
    losses = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)
    close(
        learned("imtl_l", losses, init=start), weights("uw_o", losses, eps=0.0), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize(
    ("kind", "likelihood"), [("regression", "l2"), ("classification", "cross_entropy")]
)
def test_uw_converges_to_uw_o_of_its_likelihood(kind: str, likelihood: str) -> None:
    losses = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)
    want = weights("uw_o", losses, kind=likelihood, eps=0.0)
    close(want, 1 / (2 * losses))
    close(learned("uw", losses, kind=kind), want, rtol=1e-5, atol=0)


@some
@given(losses=vectors)
def test_uw_so_with_large_temperature_is_equal_weighting(losses: Tensor) -> None:
    close(weights("uw_so", losses, temperature=1e9), weights("mean", losses), rtol=1e-6, atol=0)


@some
@given(losses=vectors)
def test_uw_so_with_small_temperature_picks_the_smallest_loss(losses: Tensor) -> None:
    losses = losses + torch.arange(losses.shape[0])  # no ties
    picked = weights("uw_so", losses, temperature=1e-9)
    assert picked[losses.argmin()] == 1


@some
@given(losses=vectors, scale=st.floats(0.1, 10))
def test_uw_so_needs_its_temperature_in_the_unit_of_one_over_loss(
    losses: Tensor, scale: float
) -> None:
    plain = weights("uw_so", losses, temperature=2.0, eps=0.0)
    close(weights("uw_so", scale * losses, temperature=2.0 / scale, eps=0.0), plain)


def test_uw_so_stays_finite_where_one_over_the_loss_is_huge() -> None:
    close(weights("uw_so", torch.tensor([1e-30, 1.0])), torch.tensor([1.0, 0.0]))


@some
@given(losses=vectors)
def test_smooth_tchebycheff_lies_between_the_hard_one_and_the_mean(losses: Tensor) -> None:
    losses = losses + torch.arange(losses.shape[0])
    hard = weights("stch", losses, form="generic", mu=1e-6)
    close(hard, weights("tchebycheff", losses), atol=1e-9, rtol=0)
    soft = weights("stch", losses, form="generic", mu=1e9)
    close(soft, weights("mean", losses) / losses.shape[0], rtol=1e-6, atol=0)


@some
@given(losses=vectors)
def test_options_that_switch_a_method_off_leave_equal_weights(losses: Tensor) -> None:
    one, mean = weights("ew", losses), weights("mean", losses)
    for name, options, want in (
        ("group_dro", {"eta": 0.0}, mean),
        ("softadapt", {"beta": 0.0}, mean),
        ("cosmos", {"strength": 0.0}, mean),
        ("lbtw", {"alpha": 0.0}, one),
        ("dtp", {}, one),
        ("relobralo", {"temperature": 1e9}, one),
        ("pbi", {"theta": 0.0}, one / losses.shape[0] ** 0.5),
    ):
        method = cast(LossMethod, equipoise.method(name, **options))
        method.weights(losses + 1)
        close(method.weights(losses), want, rtol=1e-6, atol=0)


@some
@given(losses=vectors)
def test_go4align_with_a_group_for_each_task_weights_by_the_inverse_loss(losses: Tensor) -> None:
    tasks = losses.shape[0]
    own = weights("go4align", losses, num_groups=tasks, beta=0.0)
    close(own, losses.sum() / losses / tasks)
    shared = weights("go4align", losses, num_groups=1, beta=0.0)
    close(shared, own.mean().expand(tasks))


@some
@given(losses=vectors)
def test_famo_starts_in_the_direction_of_the_log_sum(losses: Tensor) -> None:
    start = weights("famo", losses, eps=0.0)
    close(start * losses * (1 / losses).sum(), torch.ones_like(losses))


def test_famo_turns_to_the_task_that_improved_least() -> None:
    method = cast(FAMO, equipoise.method("famo"))
    losses = torch.ones(3, dtype=torch.float64)
    before = method.weights(losses)
    method.after_step(torch.tensor([0.5, 0.9, 1.0], dtype=torch.float64))
    change = method.weights(losses) - before
    assert change[0] < 0 < change[2]


def test_famo_says_what_is_missing() -> None:
    method = cast(FAMO, equipoise.method("famo", min_losses=0.5))
    with pytest.raises(RuntimeError, match="training step first"):
        method.after_step(torch.ones(2))
    with pytest.raises(ValueError, match="lower bound"):
        method.direction(torch.ones(2, 3), torch.tensor([0.4, 1.0]))


def test_stch_resumed_past_its_warm_up_keeps_its_reference() -> None:
    rows = torch.tensor([[1.0, 2.0], [0.5, 1.5], [0.4, 1.4]], dtype=torch.float64)
    method = cast(LossMethod, equipoise.method("stch", warmup_epoch=1))
    for row in rows[:2]:
        method.weights(row)
        method.end_epoch()
    fresh = cast(LossMethod, equipoise.method("stch", warmup_epoch=1))
    fresh.load_state_dict(method.state_dict())
    share = (rows[2] / rows[1]).log().softmax(0)
    close(fresh.weights(rows[2]), 2 * share / rows[2])


# K times the expectation of the squared norm of the weights, for 2 and 4 tasks.
FIVE = {
    "normal": (1.275, 1.568),
    "uniform": (1.039, 1.061),
    "dirichlet": (1.333, 1.600),
    "bernoulli": (1.667, 2.291),
    "constrained_bernoulli": (2.0, 4.0),
}


@pytest.mark.parametrize("distribution", list(FIVE))
@pytest.mark.parametrize("tasks", [2, 4])
def test_random_weights_are_on_the_simplex_with_mean_one_over_k(
    distribution: str, tasks: int
) -> None:
    draws = weights("rlw", torch.ones(40_000, tasks), distribution=distribution, seed=0).double()
    assert bool((draws >= 0).all())
    close(draws.sum(-1), torch.ones(40_000, dtype=torch.float64), rtol=1e-6, atol=0)
    five_sigma = 5 * draws.std(0).max().item() / 200
    close(draws.mean(0), torch.full((tasks,), 1 / tasks).double(), rtol=0, atol=five_sigma)
    noise = tasks * draws.square().sum(-1).mean().item()
    assert noise == pytest.approx(FIVE[distribution][tasks // 4], abs=0.02)


def test_random_normal_has_another_mean_and_the_docs_say_so() -> None:
    method = equipoise.method("rlw", distribution="random_normal", seed=1)
    draws = torch.stack([cast(LossMethod, method).weights(torch.ones(3)) for _ in range(4000)])
    five_sigma = 5 * draws.std(0).max().item() / 4000**0.5
    assert (draws.mean(0) - 1 / 3).abs().max() > 2 * five_sigma
    for name in ("rlw", "rgw"):
        cls = find(name)
        assert "random_normal" in (cls.__doc__ or "")
        assert "not for random_normal" in cls.card.guarantee


def test_softadapt_is_dwa_of_single_steps_a_step_earlier() -> None:
    rows = 0.2 + torch.rand(8, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    dwa = cast(LossMethod, equipoise.method("dwa", temperature=1.0, period=1))
    seen = [dwa.weights(losses) for losses in rows]
    for t in range(2, 8):
        close(seen[t], 3 * (rows[t - 1] / rows[t - 2]).softmax(0))


def test_constrained_bernoulli_trains_one_task_a_step() -> None:
    draws = weights("rlw", torch.ones(100, 3), distribution="constrained_bernoulli")
    assert bool(((draws == 1).sum(-1) == 1).all())
    assert bool((draws.sum(-1) == 1).all())


@pytest.mark.parametrize("draws", [1, 8])
def test_task_sampling_gives_fixed_weights_in_the_mean(draws: int) -> None:
    given = [0.5, 1.5, 4.0]
    drawn = weights("task_sampling", torch.ones(40_000, 3), weights=given, draws=draws, seed=0)
    close(drawn.sum(-1).double(), torch.full((40_000,), 6.0).double(), rtol=1e-6, atol=0)
    five_sigma = 5 * drawn.std(0).max().item() / 200
    close(drawn.mean(0).double(), torch.tensor(given).double(), rtol=0, atol=five_sigma)
    # A multinomial count has the variance n p (1 - p).
    chance = torch.tensor(given) / 6
    close(drawn.var(0).double(), (36 * chance * (1 - chance) / draws).double(), rtol=0.05, atol=0)
    if draws == 1:
        assert bool(((drawn > 0).sum(-1) == 1).all())


def test_random_normal_keeps_its_means_and_draws_anew() -> None:
    method = cast(LossMethod, equipoise.method("rlw", distribution="random_normal", seed=1))
    assert isinstance(method, RandomWeights)
    first = method.weights(torch.ones(3))
    mean, std = method.mean.clone(), method.std.clone()
    assert not torch.equal(method.weights(torch.ones(3)), first)
    assert torch.equal(method.mean, mean)
    assert torch.equal(method.std, std)


@pytest.mark.parametrize("distribution", [*FIVE, "random_normal"])
def test_rgw_draws_what_rlw_draws(distribution: str) -> None:
    losses, gramian = torch.ones(3), torch.eye(3)
    rlw = equipoise.method("rlw", distribution=distribution, seed=7)
    rgw = equipoise.method("rgw", distribution=distribution, seed=7)
    for _ in range(3):
        assert torch.equal(
            cast(LossMethod, rlw).weights(losses), cast(Any, rgw).weights(gramian, losses)
        )


def test_draws_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    weights("rlw", torch.ones(3))
    assert torch.equal(torch.rand(3), want)


def test_learned_weights_refuse_another_number_of_tasks() -> None:
    method = cast(LossMethod, equipoise.method("uw"))
    method.begin(3)
    with pytest.raises(ValueError, match="one method object per set of tasks"):
        method.weights(torch.ones(2))


def test_learned_weights_need_all_tasks_or_begin_at_the_first_step() -> None:
    method = cast(LossMethod, equipoise.method("imtl_l"))
    with (
        method.only(torch.tensor([0, 2]), 3),
        pytest.raises(RuntimeError, match=r"begin\(tasks\)"),
    ):
        method.weights(torch.ones(2))


def test_options_a_task_follow_the_tasks_that_are_present() -> None:
    method = cast(LossMethod, equipoise.method("scalarization", weights=[0.1, 0.2, 0.3]))
    with method.only(torch.tensor([0, 2]), 3):
        close(method.weights(torch.ones(2)), torch.tensor([0.1, 0.3]))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("scalarization", {"weights": [1.0, 2.0]}, "2 values but there are 3 tasks"),
        ("scalarization", {"weights": [[1.0], [2.0]]}, "one number, or one a task"),
        ("scalarization", {"weights": [1.0, float("nan"), 1.0]}, "finite"),
        ("rlw", {"distribution": "cauchy"}, "constrained_bernoulli"),
        ("task_sampling", {"weights": [1.0, 0.0]}, "above 0"),
        ("task_sampling", {"draws": 0}, "1 or more"),
        ("uw", {"kind": "poisson"}, "regression, classification"),
        ("uw", {"form": "new"}, "kendall, revised"),
        ("uw_o", {"kind": ["l1", "l3", "l2"]}, "l3"),
        ("uw_so", {"temperature": 0.0}, "above 0"),
        ("dwa", {"period": 3, "window": 3}, "exclude each other"),
        ("stch", {"form": "hard"}, "mtl, generic"),
        ("slaw", {"beta": 1.0}, r"\[0, 1\)"),
        ("cov", {"decay": -0.1}, r"\[0, 1\)"),
        ("dtp", {"alpha": 1.5}, "alpha"),
        ("relobralo", {"memory": 2.0}, "memory"),
        ("softadapt", {"variant": "new"}, "loss_weighted"),
        ("group_dro", {"eta": -1.0}, "below 0"),
    ],
)
def test_a_wrong_option_is_refused_with_what_was_expected(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        weights(name, torch.ones(3), **options)
