"""Gradient methods against their equations, their guarantees and each other.

The references here are slow and obvious: they loop over tasks and work on the gradients themselves.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor

import equipoise
from equipoise.methods.base import GramianMethod
from equipoise.methods.cr_mogm import CRMOGM
from equipoise.methods.excess_mtl import ExcessMTL
from equipoise.methods.graddrop import GradDrop
from equipoise.methods.gradnorm import GradNorm
from equipoise.methods.gradvac import GradVac, vaccinate
from equipoise.methods.modo import MoDo
from equipoise.methods.pcgrad import PCGrad, project, random_orders
from equipoise.methods.pivrg import PIVRG
from equipoise.methods.sdmgrad import SDMGrad

few = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**20)
counts = st.integers(1, 6)

J1 = torch.tensor([[-4.0, 1, 1], [6, 1, 1]], dtype=torch.float64)
J2 = torch.tensor([[1.0, 0, 2, 0], [-0.5, 1, 0, 1], [0, -2, 0.5, 1]], dtype=torch.float64)


def gradients(seed: int, tasks: int, size: int = 10) -> Tensor:
    """Task gradients with conflicts and norms that differ by an order of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    J = torch.randn(tasks, size, generator=generator, dtype=torch.float64)
    return J * torch.logspace(-0.5, 0.5, tasks, dtype=J.dtype).unsqueeze(1)


def losses_of(J: Tensor) -> Tensor:
    return torch.linspace(0.3, 2.0, len(J), dtype=J.dtype)


def weights(name: str, J: Tensor, losses: Tensor | None = None, **options: Any) -> Tensor:
    method = equipoise.method(name, **options)
    assert isinstance(method, GramianMethod)
    return method.weights(J @ J.mT, losses_of(J) if losses is None else losses)


def direction(name: str, J: Tensor, **options: Any) -> Tensor:
    return equipoise.method(name, **options).direction(J, losses_of(J))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a, b, dim=-1)


# --- the worked examples of the catalogue of methods ------------------------------------------------

WORKED: dict[str, tuple[dict[str, Any], list[float], list[float]]] = {
    "mgda": ({}, [0.6, 0.4], [0.191489, 0.562150, 0.246361]),
    "cagrad": ({"c": 0.5}, [0.704124, 0.5], [1 / 3, 0.710129, 1 / 3]),
    "imtl_g": ({}, [0.592330, 0.407670], [0.220613, 0.505724, 0.273663]),
    "nash_mtl": ({}, [0.591461, 0.407071], [0.441617, 0.839245, 0.475945]),
    "fairgrad": ({"alpha": 2.0}, [0.471363, 0.319454], [0.341056, 0.757867, 0.385982]),
    "upgrad": ({}, [10 / 9, 15 / 19], [0.354785, 5 / 9, 0.392739]),
    "dualproj": ({}, [11 / 18, 1 / 2], [1 / 3, 1 / 3, 1 / 3]),
    "config": ({}, [1.226483, 0.844124], [0.707695, 1.622295, 0.877873]),
}


@pytest.mark.parametrize("name", WORKED)
@pytest.mark.parametrize("example", [0, 1])
def test_worked_examples(name: str, example: int) -> None:
    options, *answers = WORKED[name]
    got = weights(name, (J1, J2)[example], **options)
    want = torch.tensor(answers[example], dtype=torch.float64)
    torch.testing.assert_close(got, want, rtol=0, atol=1.5e-6)


def test_worked_examples_of_aligned_mtl() -> None:
    for J, want in ((J1, [0.559072, 0.408261]), (J2, [0.206594, 0.372011, 0.227664])):
        got = weights("aligned_mtl", J, preference=1 / len(J))
        torch.testing.assert_close(got, torch.tensor(want).double(), rtol=0, atol=1.5e-6)


def test_worked_examples_of_pcgrad() -> None:
    for J, want in ((J1, [2.222222, 1.578947]), (J2, [1.1, 1.666667, 1.171429])):
        ascending = torch.tensor([[j for j in range(len(J)) if j != i] for i in range(len(J))])
        got = project(J @ J.mT, ascending).sum(0)
        torch.testing.assert_close(got, torch.tensor(want).double(), rtol=0, atol=1.5e-6)


# --- equations, on the gradients themselves ----------------------------------------------------------


def slow_pcgrad(J: Tensor, orders: Tensor) -> Tensor:
    total = torch.zeros(J.shape[1], dtype=J.dtype)
    for i, order in enumerate(orders.tolist()):
        g = J[i].clone()
        for j in order:
            if g @ J[j] < 0:
                g = g - (g @ J[j]) / (J[j] @ J[j]) * J[j]
        total += g
    return total


@few
@given(seed=seeds, tasks=counts)
def test_pcgrad_projects_one_conflict_after_the_other(seed: int, tasks: int) -> None:
    J = gradients(seed, tasks, size=4)
    orders = random_orders(torch.Size([tasks]), torch.Generator().manual_seed(seed))
    got = project(J @ J.mT, orders).sum(0) @ J
    torch.testing.assert_close(got, slow_pcgrad(J, orders))


def test_every_task_visits_every_other_one_once_in_any_order() -> None:
    generator = torch.Generator().manual_seed(0)
    orders = random_orders(torch.Size([4000, 3]), generator)
    assert orders.shape == (4000, 3, 2)
    for i in range(3):
        others = [j for j in range(3) if j != i]
        assert bool((orders[:, i].sort(-1)[0] == torch.tensor(others)).all())
        share = (orders[:, i, 0] == others[0]).double().mean()
        assert abs(share - 0.5) < 0.05  # six standard deviations


def slow_gradvac(J: Tensor, orders: Tensor, phi: Tensor, beta: float) -> Tensor:
    total = torch.zeros(J.shape[1], dtype=J.dtype)
    for i, order in enumerate(orders.tolist()):
        g = J[i].clone()
        for j in order:
            c, t = cosine(g, J[j]), phi[i, j].clone()
            if c < t:
                up = g.norm() * (t * (1 - c**2).sqrt() - c * (1 - t**2).sqrt())
                g = g + up / (J[j].norm() * (1 - t**2).sqrt()) * J[j]
            phi[i, j] = (1 - beta) * t + beta * c
        total += g
    return total


@few
@given(seed=seeds, tasks=counts, beta=st.sampled_from([0.01, 0.5, 0.9]))
def test_gradvac_reaches_the_cosines_it_expects(seed: int, tasks: int, beta: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    phi = torch.zeros(tasks, tasks, dtype=torch.float64)
    slow_phi = phi.clone()
    for step in range(4):
        J = gradients(seed + step, tasks, size=5)
        orders = random_orders(torch.Size([tasks]), generator)
        rows, phi = vaccinate(J @ J.mT, orders, phi, beta)
        want = slow_gradvac(J, orders, slow_phi, beta)
        torch.testing.assert_close(rows.sum(0) @ J, want, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(phi, slow_phi, rtol=1e-6, atol=1e-9)


@few
@given(seed=seeds, tasks=counts)
def test_gradvac_without_learning_is_pcgrad(seed: int, tasks: int) -> None:
    J = gradients(seed, tasks, size=4)
    vac, pcg = GradVac(beta=0.0, seed=seed), PCGrad(seed=seed)
    for _ in range(3):
        torch.testing.assert_close(
            vac.direction(J, losses_of(J)), pcg.direction(J, losses_of(J)), rtol=1e-9, atol=1e-9
        )


@few
@given(seed=seeds, tasks=counts, leak=st.sampled_from([0.0, 0.3, 1.0]))
def test_graddrop_lets_one_sign_pass_at_every_entry(seed: int, tasks: int, leak: float) -> None:
    J = gradients(seed, tasks)
    method, draw = GradDrop(leak=leak), torch.rand(J.shape[1], dtype=J.dtype)
    method.draw = lambda shape, device: draw  # type: ignore[method-assign]
    got = method.direction(J, losses_of(J))
    for p in range(J.shape[1]):
        column = J[:, p]
        purity = 0.5 * (1 + column.sum() / column.abs().sum())
        want = 0.0
        for entry in column.tolist():
            passes = entry > 0 if purity > draw[p] else entry < 0
            want += entry if passes else leak * entry
        assert got[p].item() == pytest.approx(want, rel=1e-9, abs=1e-12)


def test_graddrop_with_full_leak_is_the_sum_and_a_leak_may_differ_by_task() -> None:
    J = gradients(0, 3)
    torch.testing.assert_close(direction("graddrop", J, leak=1.0), J.sum(0))
    method = GradDrop(leak=[1.0, 0.0, 0.0], seed=1)
    same = GradDrop(leak=0.0, seed=1)
    kept = method.direction(J, losses_of(J)) - same.direction(J, losses_of(J))
    dropped = kept.abs() > 0
    torch.testing.assert_close(kept[dropped], J[0][dropped])


def test_graddrop_expects_the_sum_where_all_tasks_agree_and_a_fair_share_elsewhere() -> None:
    J = torch.tensor([[1.0, 3.0], [2.0, -1.0]], dtype=torch.float64)
    method = GradDrop(seed=0)
    draws = torch.stack([method.direction(J, torch.ones(2)) for _ in range(4000)])
    assert bool((draws[:, 0] == 3.0).all())
    assert abs(draws[:, 1].mean() - (0.75 * 3 + 0.25 * -1)) < 0.2


@pytest.mark.parametrize("normalization", ["none", "l2", "loss", "loss_plus"])
def test_mgda_normalises_to_find_the_weights_and_applies_them_to_the_gradients(
    normalization: str,
) -> None:
    J = gradients(3, 4)
    losses = losses_of(J)
    by = {
        "none": torch.ones(4).double(),
        "l2": J.norm(dim=1),
        "loss": losses,
        "loss_plus": losses * J.norm(dim=1),
    }[normalization]
    scaled = J / by.unsqueeze(1)
    want = weights("mgda", scaled) @ J
    torch.testing.assert_close(direction("mgda", J, normalization=normalization), want)


@few
@given(seed=seeds)
def test_krum_keeps_the_gradients_with_the_nearest_neighbours(seed: int) -> None:
    J = gradients(seed, 6)
    for f, m in ((0, 1), (1, 2), (2, 3)):
        scores = []
        for i in range(6):
            away = sorted(float((J[i] - J[j]).square().sum()) for j in range(6) if j != i)
            scores.append(sum(away[: 6 - f - 2]))
        chosen = sorted(range(6), key=lambda i: scores[i])[:m]
        want = J[chosen].mean(0)
        torch.testing.assert_close(direction("krum", J, n_byzantine=f, n_selected=m), want)


def test_krum_leaves_out_the_gradient_that_is_far_off() -> None:
    J = torch.ones(5, 3, dtype=torch.float64) + 0.01 * gradients(0, 5, 3)
    J[2] = 1e6
    assert weights("krum", J, n_byzantine=1, n_selected=4)[2] == 0


def test_krum_says_how_many_tasks_it_needs() -> None:
    with pytest.raises(ValueError, match="at least 5 tasks; there are 4"):
        weights("krum", gradients(0, 4), n_byzantine=2)


@pytest.mark.parametrize(("trim", "want"), [(0, 22.0), (1, 11 / 3), (2, 4.0), (9, 4.0)])
def test_trimmed_mean_drops_both_ends(trim: int, want: float) -> None:
    J = torch.tensor([[4.0], [100.0], [1.0], [6.0], [-1.0]], dtype=torch.float64)
    got = equipoise.method("trimmed_mean", trim_number=trim).direction(J, torch.ones(5))
    torch.testing.assert_close(got, torch.tensor([want], dtype=torch.float64))


def test_gradnorm_takes_the_step_that_autograd_takes() -> None:
    for form in ("paper", "softmax"):
        method = GradNorm(alpha=0.7, optimizer="adam", form=form)
        raw = torch.ones(3, dtype=torch.float64, requires_grad=True)
        adam = torch.optim.Adam([raw], lr=0.025)
        start = None
        for step in range(6):
            J = gradients(step, 3)
            losses = losses_of(J) * torch.tensor([1.0, 0.9**step, 1.1**step])
            start = losses if start is None else start
            w = raw if form == "paper" else 3 * raw.softmax(0)
            got = method.weights(J @ J.mT, losses)
            torch.testing.assert_close(got, w.detach())
            norms = (w.unsqueeze(1) * J).norm(dim=1)
            rate = losses / start / (losses / start).mean()
            objective = (norms - (norms.mean() * rate**0.7).detach()).abs().sum()
            adam.zero_grad()
            objective.backward()
            adam.step()
            if form == "paper":
                with torch.no_grad():
                    raw *= 3 / raw.sum()


# --- what the papers promise -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["upgrad", "dualproj", "mgda", "config", "nash_mtl", "fairgrad"])
@few
@given(seed=seeds, tasks=counts)
def test_no_task_gets_worse(name: str, seed: int, tasks: int) -> None:
    J = gradients(seed, tasks)
    d = direction(name, J)
    assert bool((J @ d >= -1e-9 * J.norm(dim=1) * d.norm()).all())


@few
@given(seed=seeds, tasks=counts)
def test_mgda_gains_at_least_its_own_square_on_every_task(seed: int, tasks: int) -> None:
    J = gradients(seed, tasks)
    d = direction("mgda", J)
    assert bool((J @ d >= d @ d - 1e-9 * J.norm() ** 2).all())


@few
@given(seed=seeds, tasks=counts)
def test_imtl_g_projects_equally_on_every_gradient(seed: int, tasks: int) -> None:
    J = gradients(seed, tasks)
    for name in ("imtl_g", "imtl"):
        d = direction(name, J)
        onto = (J / J.norm(dim=1, keepdim=True)) @ d
        torch.testing.assert_close(onto, onto[:1].expand(tasks), rtol=1e-6, atol=1e-9)
    assert weights("imtl_g", J).sum().item() == pytest.approx(1.0)


@few
@given(seed=seeds, tasks=counts)
def test_config_has_one_positive_cosine_and_the_length_of_all_projections(
    seed: int, tasks: int
) -> None:
    J = gradients(seed, tasks)
    d = direction("config", J)
    cosines = cosine(J, d.expand_as(J))
    assert cosines.min() > 0
    torch.testing.assert_close(cosines, cosines[:1].expand(tasks), rtol=1e-7, atol=1e-9)
    assert float((J @ d).sum() / d.norm()) == pytest.approx(float(d.norm()))


@few
@given(seed=seeds, tasks=counts)
def test_nash_mtl_solves_its_bargain_and_has_the_norm_of_the_square_root_of_k(
    seed: int, tasks: int
) -> None:
    J = gradients(seed, tasks)
    w = weights("nash_mtl", J)
    torch.testing.assert_close(J @ (w @ J), 1 / w, rtol=1e-7, atol=0)
    assert float((w @ J).norm() ** 2) == pytest.approx(tasks)
    clipped = direction("nash_mtl", J, max_norm=0.5)
    torch.testing.assert_close(clipped, 0.5 * (w @ J) / tasks**0.5)
    torch.testing.assert_close(direction("nash_mtl", J, max_norm=99.0), w @ J)


@few
@given(seed=seeds, tasks=counts)
def test_aligned_gradients_are_orthogonal_and_of_one_length(seed: int, tasks: int) -> None:
    J = gradients(seed, tasks)
    rows = torch.stack([weights("aligned_mtl", J, preference=e) for e in torch.eye(tasks).tolist()])
    aligned = rows @ J
    shortest = torch.linalg.svdvals(J)[-1] ** 2
    want = shortest * torch.eye(tasks, dtype=J.dtype)
    torch.testing.assert_close(aligned @ aligned.mT, want, rtol=1e-7, atol=1e-9 * float(shortest))
    assert float(torch.linalg.cond(aligned)) == pytest.approx(1.0, abs=1e-6)


def test_aligned_mtl_scales_by_the_smallest_the_middle_or_the_mean_eigenvalue() -> None:
    J = torch.diag(torch.tensor([1.0, 2.0, 5.0, 8.0], dtype=torch.float64))
    for mode, length in (("min", 1.0), ("median", 2.0), ("rmse", ((1 + 4 + 25 + 64) / 4) ** 0.5)):
        got = direction("aligned_mtl", J, scale_mode=mode)
        torch.testing.assert_close(got, torch.full((4,), length, dtype=torch.float64))


@few
@given(seed=seeds, tasks=counts, c=st.sampled_from([0.1, 0.4, 0.9]))
def test_cagrad_stays_near_the_mean_and_does_better_for_the_worst_task(
    seed: int, tasks: int, c: float
) -> None:
    J = gradients(seed, tasks)
    mean = J.mean(0)
    d = direction("cagrad", J, c=c)
    assert (d - mean).norm() <= c * mean.norm() * (1 + 1e-9)
    assert (J @ d).min() >= (J @ mean).min() - 1e-12
    torch.testing.assert_close(direction("cagrad", J, c=c, rescale=1), d / (1 + c**2))
    torch.testing.assert_close(direction("cagrad", J, c=c, rescale=2), d / (1 + c))


@few
@given(seed=seeds, tasks=counts)
def test_unit_norm_gives_every_task_the_mean_length(seed: int, tasks: int) -> None:
    J = gradients(seed, tasks)
    lengths = weights("unit_norm", J) * J.norm(dim=1)
    torch.testing.assert_close(lengths, J.norm(dim=1).mean().expand(tasks))


# --- identities ----------------------------------------------------------------------------------------


@few
@given(seed=seeds, tasks=counts)
def test_cagrad_without_a_ball_is_the_mean_and_with_a_large_one_mgda(seed: int, tasks: int) -> None:
    J = gradients(seed, tasks)
    torch.testing.assert_close(direction("cagrad", J, c=0.0), J.mean(0))
    assert cosine(direction("cagrad", J, c=1e7), direction("mgda", J)) > 1 - 1e-6


@few
@given(seed=seeds, tasks=counts)
def test_fairgrad_with_alpha_one_is_nash_mtl_and_with_small_alpha_dualproj(
    seed: int, tasks: int
) -> None:
    J = gradients(seed, tasks)
    torch.testing.assert_close(weights("fairgrad", J, alpha=1.0), weights("nash_mtl", J))
    small = weights("fairgrad", J, alpha=1e-3)
    projected = weights("dualproj", J, preference=1.0)
    torch.testing.assert_close(small, projected, rtol=0.05, atol=0)


def test_fairgrad_with_large_alpha_looks_at_the_worst_task_like_mgda() -> None:
    J = gradients(1, 3)
    assert cosine(direction("fairgrad", J, alpha=200.0), direction("mgda", J)) > 1 - 1e-3


@few
@given(seed=seeds)
def test_two_task_upgrad_adds_half_of_each_projection(seed: int) -> None:
    J = gradients(seed, 2, size=3)
    first, second = J[0], J[1]
    inner = min(float(first @ second), 0.0)
    want = (
        first - inner / (second @ second) * second + second - inner / (first @ first) * first
    ) / 2
    torch.testing.assert_close(direction("upgrad", J), want)


@few
@given(seed=seeds)
def test_of_two_tasks_pcgrad_is_twice_upgrad(seed: int) -> None:
    J = gradients(seed, 2, size=3)
    torch.testing.assert_close(direction("pcgrad", J), 2 * direction("upgrad", J))


@few
@given(seed=seeds, tasks=counts)
def test_config_and_imtl_g_differ_in_length_only(seed: int, tasks: int) -> None:
    J = gradients(seed, tasks)
    assert cosine(direction("config", J), direction("imtl_g", J)).abs() > 1 - 1e-9
    assert cosine(direction("imtl", J), direction("imtl_g", J)) > 1 - 1e-9


@few
@given(seed=seeds, tasks=counts)
def test_db_mtl_without_averaging_gives_every_log_loss_the_largest_norm(
    seed: int, tasks: int
) -> None:
    J = gradients(seed, tasks)
    log = J / losses_of(J).unsqueeze(1)
    norms = log.norm(dim=1, keepdim=True)
    want = (norms.max() * log / norms).sum(0)
    torch.testing.assert_close(direction("db_mtl", J, beta=0.0), want, rtol=1e-6, atol=1e-9)
    same = equipoise.method("unit_norm").direction(log, losses_of(J))
    assert cosine(want, same) > 1 - 1e-9


def test_db_mtl_averages_over_the_steps() -> None:
    method = equipoise.method("db_mtl", beta=0.5)
    average = torch.zeros(3, 10, dtype=torch.float64)
    for step in range(4):
        J = gradients(step, 3)
        average = 0.5 * average + 0.5 * J / losses_of(J).unsqueeze(1)
        norms = average.norm(dim=1, keepdim=True)
        want = (norms.max() * average / norms).sum(0)
        torch.testing.assert_close(method.direction(J, losses_of(J)), want, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["db_mtl", "moco", "excess_mtl"])
def test_methods_that_follow_single_parameters_have_no_features_route(name: str) -> None:
    assert equipoise.method(name).routes == ("parameters",)


def test_moco_follows_the_gradients_and_its_weights_stay_on_the_simplex() -> None:
    method = equipoise.method("moco", beta=1.0, gamma=0.05, rho=0.0)
    J = gradients(2, 3)
    for _ in range(4000):
        d = method.direction(J, losses_of(J))
    assert method.kept.sum().item() == pytest.approx(1.0)
    torch.testing.assert_close(d, direction("mgda", J), rtol=1e-3, atol=1e-3)


def test_modo_and_sdmgrad_on_equal_batches_reach_the_min_norm_point() -> None:
    J = gradients(2, 3) / 3
    modo, sdm = MoDo(gamma=0.05, rho=0.0), SDMGrad(pull=0.0, lr=0.2, n_iter=200)
    for _ in range(4000):
        d = modo.direction([J, J, J], losses_of(J))
    torch.testing.assert_close(d, direction("mgda", J), rtol=1e-3, atol=1e-3)
    for _ in range(50):
        d = sdm.direction([J, J, J], losses_of(J))
    torch.testing.assert_close(d, direction("mgda", J), rtol=1e-3, atol=1e-3)


def test_methods_of_several_batches_ask_for_three() -> None:
    J = gradients(0, 2)
    for given_ in (J, [J, J]):
        with pytest.raises(ValueError, match="three independent batches"):
            MoDo().direction(given_, losses_of(J))


def test_sdmgrad_with_a_strong_pull_is_the_mean() -> None:
    J = gradients(0, 3)
    d = SDMGrad(pull=1e6).direction([J, J, J], losses_of(J))
    torch.testing.assert_close(d, J.mean(0), rtol=1e-4, atol=1e-4)


def test_pivrg_without_scores_is_fairgrad_and_with_them_favours_the_worse_tasks() -> None:
    J = gradients(0, 3)
    method = PIVRG()
    plain = method.weights(J @ J.mT, losses_of(J))
    torch.testing.assert_close(plain, weights("fairgrad", J, alpha=2.0))
    method.update_scores([0.0, 50.0, 0.0])
    leaning = method.weights(J @ J.mT, losses_of(J))
    assert leaning[1] / leaning[0] > plain[1] / plain[0]
    assert leaning[1] / leaning[2] > plain[1] / plain[2]


def test_pivrg_never_lets_two_shares_differ_by_more_than_its_bound() -> None:
    J = torch.eye(2, dtype=torch.float64)  # then w = share ** (1/3)
    method = PIVRG(bound=2.0, min_temperature=1.0)
    method.update_scores([0.0, 1000.0])
    w = method.weights(J, torch.ones(2))
    assert float((w[1] / w[0]) ** 3) == pytest.approx(2.0)


@pytest.mark.parametrize(("alpha", "initial"), product([0.0, 0.5, 0.9], ["first", "uniform"]))
def test_cr_mogm_smooths_the_inner_weights(alpha: float, initial: str) -> None:
    method = CRMOGM("upgrad", alpha=alpha, initial=initial)
    kept = None if initial == "first" else torch.full((3,), 1 / 3, dtype=torch.float64)
    for step in range(4):
        J = gradients(step, 3)
        fresh = weights("upgrad", J)
        kept = fresh if kept is None else alpha * kept + (1 - alpha) * fresh
        torch.testing.assert_close(method.weights(J @ J.mT, losses_of(J)), kept)


def test_cr_mogm_keeps_the_state_of_its_inner_method() -> None:
    method = CRMOGM("gradnorm", options={"optimizer": "sgd"})
    J = gradients(0, 3)
    for _ in range(3):
        method.weights(J @ J.mT, losses_of(J))
    twin = CRMOGM("gradnorm", options={"optimizer": "sgd"})
    twin.load_state_dict(method.state_dict())
    torch.testing.assert_close(
        twin.weights(J @ J.mT, losses_of(J)), method.weights(J @ J.mT, losses_of(J))
    )
    with method.only(torch.tensor([0, 2]), 3):
        some = J[[0, 2]]
        assert method.weights(some @ some.mT, losses_of(some)).shape == (2,)


def test_cr_mogm_says_what_it_cannot_smooth() -> None:
    with pytest.raises(ValueError, match="'graddrop' looks at jacobian"):
        CRMOGM("graddrop")  # type: ignore[arg-type]


def test_excess_mtl_moves_weight_to_the_task_that_improves_least() -> None:
    method = equipoise.method("excess_mtl", robust_step_size=0.5)
    J = gradients(0, 2)
    for step in range(6):
        # The gradients of the second task shrink: it converges.
        method.direction(J * torch.tensor([[1.0], [0.5**step]]), losses_of(J))
    assert method.kept[0] > 1 > method.kept[1]
    assert method.kept.sum().item() == pytest.approx(2.0)


def test_excess_mtl_tells_the_weights_it_has_applied() -> None:
    method = ExcessMTL(robust_step_size=0.5)
    assert method.applied_weights is None
    J = gradients(0, 3)
    for step in range(3):
        now = J * torch.tensor([[1.0], [0.5**step], [1.0]])
        got = method.direction(now, losses_of(J))
        assert method.applied_weights is not None
        torch.testing.assert_close(method.applied_weights @ now, got)
    assert equipoise.method("trimmed_mean").applied_weights is None


def test_db_mtl_gives_the_heads_the_gradient_of_the_log_loss() -> None:
    losses = torch.tensor([0.5, 2.0, 0.0], dtype=torch.float64)
    factors = equipoise.method("db_mtl").head_factors(losses)
    assert factors is not None
    torch.testing.assert_close(factors, torch.tensor([2.0, 0.5, 1e8], dtype=torch.float64))


@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_graddrop_keeps_the_norm_of_the_sum_where_asked(leak: float) -> None:
    J = gradients(5, 3)
    plain, kept = (
        GradDrop(leak=leak, keep_norm=norm, seed=3).direction(J, losses_of(J))
        for norm in (False, True)
    )
    assert cosine(plain, kept) == pytest.approx(1.0)
    assert kept.norm().item() == pytest.approx(J.sum(0).norm().item())
    assert abs(plain.norm() - kept.norm()) > 1e-3 * plain.norm()
    rows = J.view(3, 2, 5)
    (features,) = GradDrop(leak=leak, keep_norm=True).combine_features(
        [rows], [torch.ones(2, 5, dtype=J.dtype)], losses_of(J)
    )
    assert features.norm().item() == pytest.approx(rows.sum(0).norm().item())
    zero = torch.zeros(2, 4, dtype=J.dtype)
    assert torch.equal(GradDrop(keep_norm=True).direction(zero, losses_of(zero)), zero[0])


def exact_gradvac(
    J: Tensor, orders: Tensor, phi: Tensor, beta: float
) -> tuple[list[list[Any]], list[list[Any]]]:
    """The corrected gradients and the new targets, from the gradients themselves, in forty digits."""
    with mp.workdps(40):
        plain = [mp.matrix(row) for row in J.tolist()]
        targets = [[mp.mpf(t) for t in row] for row in phi.tolist()]
        rows = [row.copy() for row in plain]
        for i, order in enumerate(orders.tolist()):
            for j in order:
                own, other = mp.norm(rows[i]), mp.norm(plain[j])
                cos = mp.fdot(rows[i], plain[j]) / (own * other)
                t = targets[i][j]
                if cos < t:
                    wanted = t * mp.sqrt(1 - cos**2) - cos * mp.sqrt(1 - t**2)
                    rows[i] += own * wanted / (other * mp.sqrt(1 - t**2)) * plain[j]
                targets[i][j] = (1 - beta) * t + beta * cos
        return [list(map(float, row)) for row in rows], [list(map(float, t)) for t in targets]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("groups", [[2, 2], [3, 4], [7]])
def test_gradvac_follows_its_equation_over_eight_decades(seed: int, groups: list[int]) -> None:
    """Group by group of the parameters; a cosine does not know how large its gradients are."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.tensor([1e4, 1e-4, 1.0], dtype=torch.float64).unsqueeze(1)
    phis = [torch.zeros(3, 3, dtype=torch.float64) for _ in groups]
    for _ in range(4):
        J = scales * torch.randn(3, sum(groups), generator=generator, dtype=torch.float64)
        orders = random_orders(torch.Size([3]), generator)
        for g, block in enumerate(J.split(groups, 1)):
            rows, targets = exact_gradvac(block, orders, phis[g], 0.5)
            got, phis[g] = vaccinate(block @ block.mT, orders, phis[g], 0.5)
            want = torch.tensor(rows, dtype=torch.float64)
            size = want.norm(dim=1, keepdim=True)
            torch.testing.assert_close(got @ block / size, want / size, rtol=0, atol=1e-7)
            want = torch.tensor(targets, dtype=torch.float64)
            torch.testing.assert_close(phis[g], want, rtol=0, atol=1e-7)


# --- options that cannot be meant -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mgda", {"normalization": "l3"}, "'normalization' is one of none, l2"),
        ("cagrad", {"c": -0.1}, "'c' must not be below 0"),
        ("cagrad", {"rescale": 3}, "'rescale' is 0"),
        ("nash_mtl", {"max_norm": 0.0}, "'max_norm' must be above 0"),
        ("fairgrad", {"alpha": 0.0}, "'alpha' must be above 0"),
        ("aligned_mtl", {"scale_mode": "max"}, "'scale_mode' is one of min"),
        ("graddrop", {"leak": 1.5}, r"'leak' must lie in \[0, 1\]"),
        ("gradvac", {"beta": 2.0}, r"'beta' must lie in \[0, 1\]"),
        ("gradnorm", {"alpha": -1.0}, "'alpha' must not be below 0"),
        ("gradnorm", {"optimizer": "lion"}, "'optimizer' is one of sgd, adam"),
        ("krum", {"n_selected": 0}, "n_selected >= 1"),
        ("pivrg", {"bound": 1.0}, "'bound' must be above 1"),
        ("cr_mogm", {"initial": "last"}, "'initial' is 'first' or 'uniform'"),
        ("unit_norm", {"form": "max"}, "'form' is one of unit"),
        ("trimmed_mean", {"trim_number": -1}, "'trim_number' must not be below 0"),
        ("moco", {"onto_simplex": "clip"}, "'onto_simplex' is 'projection'"),
        ("sdmgrad", {"n_iter": 0}, "'n_iter' must be at least 1"),
        ("excess_mtl", {"robust_step_size": 0.0}, "'robust_step_size' must be above 0"),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        equipoise.method(name, **options)
