"""Loss methods against slow, obvious references written from their equations.

A reference is a function of the losses of all steps so far (a list of lists of floats) and of the
number of steps in an epoch; it returns the weights of the last step, from scratch, with no state.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import equipoise
from equipoise.methods.base import LossMethod
from equipoise.methods.dtp import DTP
from equipoise.methods.go4align import group_means

Losses = list[list[float]]
EPOCH = 3
some = settings(max_examples=25, deadline=None, derandomize=True)
positive = st.floats(0.05, 20)


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    terms = [math.exp(v - top) for v in values]
    return [t / sum(terms) for t in terms]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def std(values: list[float]) -> float:
    return math.sqrt(mean([(v - mean(values)) ** 2 for v in values]))


def columns(seen: Losses) -> list[list[float]]:
    return [list(column) for column in zip(*seen, strict=True)]


def epochs(seen: Losses) -> list[list[float]]:
    """Mean losses of the epochs that are over before the last step."""
    whole = (len(seen) - 1) // EPOCH
    return [[mean(c) for c in columns(seen[e * EPOCH : (e + 1) * EPOCH])] for e in range(whole)]


def uw_o(seen: Losses) -> list[float]:
    return [1 / (loss + 1e-8) for loss in seen[-1]]


def uw_o_mixed(seen: Losses) -> list[float]:
    return [a / loss for a, loss in zip([1, 0.5, 0.5], seen[-1], strict=True)]


def uw_so(seen: Losses) -> list[float]:
    return softmax([1 / (loss + 1e-8) / 3 for loss in seen[-1]])


def gls(seen: Losses) -> list[float]:
    root = math.prod(seen[-1]) ** (1 / len(seen[-1]))
    return [root / len(seen[-1]) / loss for loss in seen[-1]]


def dwa(seen: Losses) -> list[float]:
    over = epochs(seen)
    if len(over) < 2:
        return [1.0] * len(seen[-1])
    ratios = [a / b / 2 for a, b in zip(over[-1], over[-2], strict=True)]
    return [len(ratios) * w for w in softmax(ratios)]


def igb(seen: Losses) -> list[float]:
    over, losses = epochs(seen), seen[-1]
    if len(over) < 2:
        return [1 / loss for loss in losses]
    share = softmax([loss / base for loss, base in zip(losses, over[1], strict=True)])
    return [len(losses) * s / loss for s, loss in zip(share, losses, strict=True)]


def stch(seen: Losses) -> list[float]:
    over, losses = epochs(seen), seen[-1]
    if len(over) < 2:
        return [1 / loss for loss in losses]
    share = softmax([math.log(loss / n) / 0.5 for loss, n in zip(losses, over[1], strict=True)])
    return [len(losses) * s / loss for s, loss in zip(share, losses, strict=True)]


def stch_generic(seen: Losses) -> list[float]:
    preference, ideal = [0.2, 0.3, 0.5], 0.01
    terms = [p * (loss - ideal) / 0.4 for p, loss in zip(preference, seen[-1], strict=True)]
    return [p * s for p, s in zip(preference, softmax(terms), strict=True)]


def tchebycheff(seen: Losses) -> list[float]:
    preference = [0.2, 0.3, 0.5]
    distance = [p * (loss - 0.01) for p, loss in zip(preference, seen[-1], strict=True)]
    return [p if d == max(distance) else 0.0 for p, d in zip(preference, distance, strict=True)]


def by_autograd(value: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Losses], list[float]]:
    """Weights as the derivative of the scalarization."""

    def reference(seen: Losses) -> list[float]:
        losses = torch.tensor(seen[-1], dtype=torch.float64, requires_grad=True)
        (weights,) = torch.autograd.grad(value(losses), losses)
        return cast(list[float], weights.tolist())

    return reference


PREFERENCE = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)


def cosmos_value(losses: torch.Tensor) -> torch.Tensor:
    return PREFERENCE @ losses - 2 * torch.cosine_similarity(PREFERENCE, losses, dim=0)


def pbi_value(losses: torch.Tensor) -> torch.Tensor:
    n = PREFERENCE / PREFERENCE.norm()
    along = (losses - 0.01) @ n
    return along + 3 * (losses - 0.01 - along * n).norm()


def cov(seen: Losses) -> list[float]:
    past, tasks = seen[:-1], len(seen[-1])
    if len(past) < 2:
        return [1 / tasks] * tasks
    variation = []
    for column in columns(past):
        ratios = [1.0] + [column[t] / mean(column[:t]) for t in range(1, len(column))]
        variation.append(math.sqrt(std(ratios) ** 2 + 1e-8) / mean(ratios))
    return [v / sum(variation) for v in variation]


def slaw(seen: Losses) -> list[float]:
    tasks = len(seen[-1])
    if len(seen) < 2:
        return [1.0] * tasks
    inverse = [1 / max(std(column), 1e-5) for column in columns(seen)]  # shorter than 1/(1 - beta)
    return [tasks * i / sum(inverse) for i in inverse]


def lbtw(seen: Losses) -> list[float]:
    first = seen[(len(seen) - 1) // EPOCH * EPOCH]
    ratios = [math.sqrt(loss / start) for loss, start in zip(seen[-1], first, strict=True)]
    return [len(ratios) * r / sum(ratios) for r in ratios]


def softadapt(seen: Losses) -> list[float]:
    before = seen[-2] if len(seen) > 1 else seen[-1]
    return softmax([0.1 * (now - then) for now, then in zip(seen[-1], before, strict=True)])


def softadapt_normalized(seen: Losses) -> list[float]:
    before = seen[-2] if len(seen) > 1 else seen[-1]
    change = [now - then for now, then in zip(seen[-1], before, strict=True)]
    size = sum(abs(c) for c in change) or 1
    return softmax([2 * c / size for c in change])


def softadapt_weighted(seen: Losses) -> list[float]:
    before = seen[-2] if len(seen) > 1 else seen[-1]
    terms = [now * math.exp(0.1 * (now - then)) for now, then in zip(seen[-1], before, strict=True)]
    return [t / sum(terms) for t in terms]


def relobralo(seen: Losses) -> list[float]:
    """Always a look back: the coin never shows 1."""
    first, losses = seen[0], seen[-1]
    last = seen[-2] if len(seen) > 1 else losses
    since_first = softmax([loss / (2 * f) for loss, f in zip(losses, first, strict=True)])
    since_last = softmax([loss / (2 * f) for loss, f in zip(losses, last, strict=True)])
    return [len(losses) * (0.9 * a + 0.1 * b) for a, b in zip(since_first, since_last, strict=True)]


def relobralo_never_back(seen: Losses) -> list[float]:
    """The coin always shows 1: a moving average of the progress since the last step."""
    weights = [1.0] * len(seen[-1])
    for t, losses in enumerate(seen):
        last = seen[t - 1] if t else losses
        fresh = softmax([loss / (2 * f) for loss, f in zip(losses, last, strict=True)])
        weights = [0.9 * w + 0.1 * len(losses) * f for w, f in zip(weights, fresh, strict=True)]
    return weights


def group_dro(seen: Losses) -> list[float]:
    weights = [1.0] * len(seen[-1])
    for losses in seen:
        weights = [w * math.exp(0.1 * loss) for w, loss in zip(weights, losses, strict=True)]
    return [w / sum(weights) for w in weights]


def go4align(seen: Losses) -> list[float]:
    influence = [1.0] * len(seen[-1])
    for losses in seen:
        influence = [q * math.exp(-0.1 * loss) for q, loss in zip(influence, losses, strict=True)]
    q = [i / sum(influence) for i in influence]
    return best_groups([a * sum(seen[-1]) / loss for a, loss in zip(q, seen[-1], strict=True)], 2)


def best_groups(values: list[float], groups: int) -> list[float]:
    """Every assignment to groups, tried one by one."""
    best, answer = math.inf, values
    for labels in itertools.product(range(groups), repeat=len(values)):
        pairs = list(zip(values, labels, strict=True))
        members = [[v for v, g in pairs if g == k] for k in range(groups)]
        centre = [mean(m) if m else 0.0 for m in members]
        cost = sum((v - centre[g]) ** 2 for v, g in pairs)
        if cost < best:
            best, answer = cost, [centre[g] for g in labels]
    return answer


CASES: list[tuple[str, dict[str, Any], Callable[[Losses], list[float]]]] = [
    ("ew", {}, lambda seen: [1.0] * 3),
    ("mean", {}, lambda seen: [1 / 3] * 3),
    ("scalarization", {}, lambda seen: [1.0] * 3),
    ("scalarization", {"weights": [0.2, 3.0, 0.0]}, lambda seen: [0.2, 3.0, 0.0]),
    ("si", {}, lambda seen: [1 / loss for loss in seen[-1]]),
    ("uw", {"init": 0.4}, lambda seen: [math.exp(-0.4) / 2] * 3),
    (
        "uw",
        {"kind": ["regression", "classification", "regression"], "init": [0.0, 1.0, 2.0]},
        lambda seen: [0.5, math.exp(-1), math.exp(-2) / 2],
    ),
    ("imtl_l", {"init": [0.0, 1.0, -1.0]}, lambda seen: [1.0, math.e, 1 / math.e]),
    ("uw_o", {}, uw_o),
    ("uw_o", {"kind": ["l1", "l2", "cross_entropy"], "eps": 0.0}, uw_o_mixed),
    ("uw_so", {"temperature": 3.0}, uw_so),
    ("gls", {}, gls),
    ("dwa", {}, dwa),
    ("dwa", {"period": EPOCH}, dwa),
    ("igb", {}, igb),
    ("igb", {"period": EPOCH}, igb),
    ("stch", {"mu": 0.5, "warmup_epoch": 1}, stch),
    ("stch", {"mu": 0.5, "warmup_epoch": 1, "period": EPOCH}, stch),
    (
        "stch",
        {"mu": 0.4, "form": "generic", "preference": [0.2, 0.3, 0.5], "reference": 0.01},
        stch_generic,
    ),
    ("tchebycheff", {"preference": [0.2, 0.3, 0.5], "reference": 0.01}, tchebycheff),
    ("cosmos", {"strength": 2.0, "preference": [0.2, 0.3, 0.5]}, by_autograd(cosmos_value)),
    (
        "pbi",
        {"theta": 3.0, "preference": [0.2, 0.3, 0.5], "reference": 0.01},
        by_autograd(pbi_value),
    ),
    ("cov", {}, cov),
    ("slaw", {}, slaw),
    ("lbtw", {}, lbtw),
    ("softadapt", {}, softadapt),
    ("softadapt", {"variant": "normalized", "beta": 2.0}, softadapt_normalized),
    ("softadapt", {"variant": "loss_weighted"}, softadapt_weighted),
    ("relobralo", {"alpha": 0.9, "memory": 0.0, "temperature": 2.0}, relobralo),
    ("relobralo", {"alpha": 0.9, "memory": 1.0, "temperature": 2.0}, relobralo_never_back),
    ("group_dro", {"eta": 0.1}, group_dro),
    ("go4align", {"num_groups": 2, "beta": 0.1}, go4align),
]


@pytest.mark.parametrize(
    ("name", "options", "reference"),
    CASES,
    ids=[f"{i}-{name}" for i, (name, _, _) in enumerate(CASES)],
)
@some
@given(rows=st.lists(st.lists(positive, min_size=3, max_size=3), min_size=1, max_size=11))
def test_weights_follow_the_equation(
    name: str, options: dict[str, Any], reference: Callable[[Losses], list[float]], rows: Losses
) -> None:
    method = cast(LossMethod, equipoise.method(name, **options))
    for t, losses in enumerate(rows):
        # With a period the method closes its epochs by itself.
        if t and t % EPOCH == 0 and "period" not in options:
            method.end_epoch()
        weights = method.weights(torch.tensor(losses, dtype=torch.float64)).detach()
        want = torch.tensor(reference(rows[: t + 1]), dtype=torch.float64)
        # SLAW and CoV divide by deviations: rounding of near-constant losses shows there.
        torch.testing.assert_close(weights, want, rtol=1e-6, atol=1e-9)


VARIANTS = [
    *[(name, options) for name, options, _ in CASES if options],
    ("dwa", {"window": 2}),
    ("cov", {"decay": 0.9}),
    ("rlw", {"distribution": "random_normal", "seed": 4}),
    ("rlw", {"distribution": "bernoulli", "seed": 4}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_variants_resume_bit_for_bit(name: str, options: dict[str, Any], stop: int) -> None:
    rows = 0.1 + torch.rand(10, 3, generator=torch.Generator().manual_seed(0))

    def run(method: LossMethod, start: int, end: int) -> list[torch.Tensor]:
        answers = []
        for t in range(start, end):
            answers.append(method.weights(rows[t]).detach())
            if t % EPOCH == EPOCH - 1:
                method.end_epoch()
        return answers

    kept, fresh = (cast(LossMethod, equipoise.method(name, **options)) for _ in range(2))
    run(kept, 0, stop)
    fresh.load_state_dict(kept.state_dict())
    pairs = zip(run(kept, stop, 10), run(fresh, stop, 10), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_cov_with_decay_forgets() -> None:
    """A task that settled long ago loses its weight to one that still moves."""
    decaying, plain = (cast(LossMethod, equipoise.method("cov", decay=d)) for d in (0.8, None))
    for t in range(60):
        early = 1.0 if t > 5 else 1.0 + t % 2
        losses = torch.tensor([early, 1.0 + 0.2 * (t % 2)], dtype=torch.float64)
        forgetful, faithful = decaying.weights(losses), plain.weights(losses)
    assert forgetful[0] < 0.05 < 0.5 < faithful[0]


def test_dtp_is_the_focal_loss_of_the_scores() -> None:
    method = DTP(gamma=[1.0, 2.0, 0.5], alpha=0.25)
    losses = torch.ones(3, dtype=torch.float64)
    assert method.weights(losses).tolist() == [1.0, 1.0, 1.0]
    method.update_scores([0.8, 0.4, 1.0])
    method.update_scores([0.4, float("nan"), 1.0])
    kappa = [0.75 * 0.8 + 0.25 * 0.4, 0.4, 1.0]
    want = [-((1 - k) ** g) * math.log(k) for k, g in zip(kappa, [1.0, 2.0, 0.5], strict=True)]
    assert method.weights(losses).tolist() == pytest.approx(want, rel=1e-6)


def test_dtp_bounds_the_weight_of_a_task_that_gets_nothing_right() -> None:
    method = DTP(floor=0.01)
    method.update_scores([0.0, 0.5])
    assert method.weights(torch.ones(2))[0].item() == pytest.approx(0.99 * math.log(100), rel=1e-5)
    with pytest.raises(ValueError, match="1 - e"):
        method.update_scores([1.2, 0.5])


@some
@given(
    values=st.lists(st.floats(1e-3, 1e8), min_size=1, max_size=6, unique=True),
    groups=st.integers(1, 4),
)
def test_groups_are_the_best_of_all_assignments(values: list[float], groups: int) -> None:
    got = group_means(torch.tensor(values, dtype=torch.float64), groups).tolist()
    want = best_groups(values, min(groups, len(values)))

    def cost(means: list[float]) -> float:
        return sum((v - m) ** 2 for v, m in zip(values, means, strict=True))

    assert len(set(got)) <= groups
    assert cost(got) <= cost(want) * (1 + 1e-9) + 1e-18


def test_uw_penalties_are_those_of_the_two_papers() -> None:
    losses = torch.ones(2, dtype=torch.float64)
    for form, want in (
        ("kendall", lambda s: s / 2),
        ("revised", lambda s: math.log(1 + math.exp(s))),
    ):
        method = cast(LossMethod, equipoise.method("uw", form=form, init=[0.3, -1.2]))
        method.weights(losses)
        penalty = method.penalty()
        assert penalty is not None
        assert penalty.tolist() == pytest.approx([want(0.3), want(-1.2)])


def test_uw_survives_a_huge_log_variance() -> None:
    method = cast(LossMethod, equipoise.method("uw", init=1000.0))
    assert method.weights(torch.ones(2, dtype=torch.float64)).tolist() == [0.0, 0.0]


LOSS_IDS = [c.id for c in equipoise.methods() if equipoise.method(c.id).needs == "losses"]


@pytest.mark.parametrize("name", LOSS_IDS)
def test_no_weight_runs_away_unseen_under_a_loss_that_stays_negative(name: str) -> None:
    learns = equipoise.method(name).learns
    balancer = equipoise.Balancer(
        name, ["policy", "value"], seed=0, self_optimized=0.1 if learns else False
    )
    shared = torch.ones(3, requires_grad=True)
    for step in range(300):
        losses = {"policy": shared.sum() - 5, "value": shared.square().sum()}
        try:
            balancer(losses)
        except ValueError as error:
            assert "'policy' is -2" in str(error) and f"'{name}' needs" in str(error)
            return
        if step % 100 == 99:
            balancer.end_epoch()
    weights = [value for key, value in balancer.metrics().items() if "/weight/" in key]
    assert len(weights) == 2
    assert max(map(abs, weights)) < 10


def test_learned_weights_take_a_loss_of_0() -> None:
    for name in ("uw", "imtl_l"):
        assert bool(equipoise.method(name).direction(torch.eye(2), torch.zeros(2)).isfinite().all())


def test_gls_survives_losses_whose_product_underflows() -> None:
    weights = cast(LossMethod, equipoise.method("gls")).weights(torch.full((40,), 1e-9))
    torch.testing.assert_close(weights, torch.full((40,), 1 / 40))


@pytest.mark.parametrize("option", [{}, {"period": 5}, {"window": 5}], ids=str)
def test_dwa_waits_for_the_end_of_an_epoch_unless_it_counts_steps(option: dict[str, int]) -> None:
    assert equipoise.method("dwa", **option).awaits == ("" if option else "end_epoch()")


def test_sliding_dwa_starts_from_a_buffer_of_ones() -> None:
    method = cast(LossMethod, equipoise.method("dwa", window=2))
    rows = [[0.5, 2.0], [0.4, 1.9], [0.3, 1.9], [0.3, 1.8], [0.2, 1.8]]
    got = [method.weights(torch.tensor(row, dtype=torch.float64)).tolist() for row in rows]
    assert got[:3] == [[1.0, 1.0]] * 3
    filled = [[1.0, 1.0]] * 4 + rows
    for t in (3, 4):
        last = filled[t + 1 : t + 5]
        ratio = [mean(c[2:]) / mean(c[:2]) / 2 for c in columns(last)]
        assert got[t] == pytest.approx([2 * w for w in softmax(ratio)])


def test_ldc_mtl_is_its_objective_in_value_and_gradient() -> None:
    method = cast(LossMethod, equipoise.method("ldc_mtl", strength=0.3, init=[0.1, -0.4, 0.6]))
    method.double()
    first, losses = torch.tensor([[1.0, 3.0, 0.5], [0.8, 1.5, 0.6]], dtype=torch.float64)
    method.weights(first)
    (s,) = method.parameters()
    given_losses = losses.clone().requires_grad_()
    v = s.softmax(0) * given_losses / (first / first.min())
    objective = v.sum() + 0.3 * (v[:-1] - v[1:]).abs().sum()
    want = torch.autograd.grad(objective, [given_losses, s])
    value = method.weights(losses) @ losses
    torch.testing.assert_close(value, objective)
    torch.testing.assert_close(method.weights(losses), want[0])
    torch.testing.assert_close(torch.autograd.grad(value, s)[0], want[1])
