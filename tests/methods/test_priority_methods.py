"""PCD, IMGrad and FERERO: what they promise, and a slow version of what they solve."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import equipoise
from equipoise.methods.base import GramianMethod
from equipoise.methods.ferero import FERERO
from equipoise.methods.imgrad import IMGrad
from equipoise.methods.pcd import PCD
from equipoise.solvers import SolverError

NAMES = ["pcd", "imgrad", "ferero"]
few = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**16)


def gradients(seed: int, tasks: int, size: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    J = torch.randn(tasks, size, generator=generator, dtype=torch.float64)
    return J * torch.logspace(-0.5, 0.5, tasks, dtype=J.dtype).unsqueeze(1)


def losses(seed: int, tasks: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1)
    return 0.2 + 2 * torch.rand(tasks, generator=generator, dtype=torch.float64)


def weights(name: str, J: Tensor, L: Tensor | None = None, **options: Any) -> Tensor:
    method = equipoise.method(name, **options)
    assert isinstance(method, GramianMethod)
    return method.weights(J @ J.mT, torch.ones(len(J), dtype=J.dtype) if L is None else L)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a, b, dim=-1)


def defective(defect: str, tasks: int) -> Tensor:
    J = gradients(3, tasks)
    if defect == "zero":
        J[0] = 0
    elif defect == "last zero":
        J[-1] = 0
    elif defect == "all zero":
        J[:] = 0
    elif defect == "equal":
        J[:] = J[0]
    elif defect == "opposite":
        J[-1] = -J[0] if tasks > 1 else J[0]
    elif defect == "others opposite":
        J[-1] = -3 * J[1 % tasks]
    elif defect == "nearly opposite":
        J[-1] = -J[0] + 1e-9 * J[-1]
    elif defect == "rank one":
        J = torch.linspace(-1, 2, tasks, dtype=J.dtype).unsqueeze(1) * J[:1]
    elif defect == "one parameter":
        J = J[:, :1]
    elif defect == "decades":
        J = J * torch.logspace(-4, 4, tasks, dtype=J.dtype).unsqueeze(1)
    elif defect == "decades down":
        J = J * torch.logspace(4, -4, tasks, dtype=J.dtype).unsqueeze(1)
    elif defect == "tiny":
        J = 1e-8 * J
    return J


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "defect",
    [
        "zero",
        "last zero",
        "all zero",
        "equal",
        "opposite",
        "others opposite",
        "nearly opposite",
        "rank one",
        "one parameter",
        "decades",
        "decades down",
        "tiny",
    ],
)
@pytest.mark.parametrize("tasks", [1, 2, 3, 6, 12, 20])
def test_defects_have_a_finite_answer_alone_and_in_a_batch(
    name: str, defect: str, tasks: int
) -> None:
    J, L = defective(defect, tasks), losses(3, tasks)
    direction = weights(name, J, L) @ J
    assert direction.isfinite().all()
    method = equipoise.method(name)
    both = method.direction(torch.stack([J, gradients(4, tasks, J.shape[1])]), L.expand(2, tasks))
    close = 1e-5 * float(direction.abs().max()) + 1e-12 * float(J.abs().max())
    torch.testing.assert_close(both[0], direction, rtol=0, atol=close)


@pytest.mark.parametrize("name", ["pcd", "imgrad"])
@pytest.mark.parametrize("defect", ["zero", "opposite", "rank one", "decades", "equal"])
def test_the_unit_of_all_gradients_does_not_matter(name: str, defect: str) -> None:
    J = defective(defect, 4)
    options = {"eps": 0.0} if name == "pcd" else {}
    # A power of two changes no digit.
    want = weights(name, J, **options)
    torch.testing.assert_close(weights(name, 2.0**-30 * J, **options), want, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_gramian_that_is_not_finite_is_told_with_the_method(name: str) -> None:
    J = torch.full((3, 2), torch.nan, dtype=torch.float64)
    with pytest.raises(SolverError, match=name):
        weights(name, J, losses(0, 3))


# --- PCD ---------------------------------------------------------------------------------------------


def slow_pcd(J: Tensor, tau: float, first: int) -> Tensor | None:
    """The projection with the gradients at unit length; None where there is none."""
    cp = pytest.importorskip("cvxpy")
    pytest.importorskip("clarabel")
    units = (J / J.norm(dim=1, keepdim=True)).numpy()
    d = cp.Variable(J.shape[1])
    others = [k for k in range(len(J)) if k != first]
    problem = cp.Problem(
        cp.Minimize(cp.sum_squares(d - units[first])), [units[k] @ d >= tau for k in others]
    )
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    if problem.status not in ("optimal", "optimal_inaccurate"):
        return None
    answer = torch.from_numpy(np.asarray(d.value))
    return answer * (J[first].norm() / answer.norm())


@few
@given(
    seed=seeds,
    tasks=st.integers(2, 7),
    tau=st.sampled_from([0.02, 0.3, 1.0]),
    first=st.integers(0, 6),
)
def test_pcd_solves_the_projection(seed: int, tasks: int, tau: float, first: int) -> None:
    J, first = gradients(seed, tasks), first % tasks
    want = slow_pcd(J, tau, first)
    assert want is not None
    got = weights("pcd", J, tau=tau, primary=first, eps=0.0) @ J
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4 * float(want.norm()))


@few
@given(seed=seeds, tasks=st.integers(2, 20), tau=st.floats(0, 1), size=st.integers(20, 40))
def test_pcd_gives_every_other_task_its_share(seed: int, tasks: int, tau: float, size: int) -> None:
    J = gradients(seed, tasks, size)
    w = weights("pcd", J, tau=tau, eps=0.0)
    d = w @ J
    assert w[0] > 0
    assert w.min() >= 0
    assert d.norm().item() == pytest.approx(J[0].norm().item(), rel=1e-8)
    # w[0] is the factor that brings the answer for unit gradients to the primary one's length.
    gains = (J / J.norm(dim=1, keepdim=True)) @ (d / (w[0] * J[0].norm()))
    assert gains[1:].min() >= tau - 1e-8
    # A task has weight only where its constraint is in force.
    assert ((gains[1:] - tau)[w[1:] > 0].abs() <= 1e-7).all()


@few
@given(
    seed=seeds,
    tasks=st.integers(2, 20),
    tau=st.sampled_from([0.0, 0.02, 1.0]),
    size=st.integers(1, 6),
)
def test_pcd_of_more_tasks_than_parameters_gives_shares_where_some_vector_does(
    seed: int, tasks: int, tau: float, size: int
) -> None:
    J = gradients(seed, tasks, size)
    # All but the first within 80 degrees of one direction, so that a vector along it meets all constraints.
    shared = 0.2 * J.norm(dim=1, keepdim=True)
    J[1:, 0] = torch.maximum(J[1:, 0].abs(), shared[1:, 0])
    w = weights("pcd", J, tau=tau, eps=0.0)
    if w[0] > 0:
        gains = (J / J.norm(dim=1, keepdim=True)) @ ((w @ J) / (w[0] * J[0].norm()))
        assert gains[1:].min() >= tau - 1e-7
    else:
        assert tau == 0


def test_pcd_does_not_mistake_the_rounding_of_right_angles_for_constraints() -> None:
    J = torch.tensor(
        [
            [1.0, 1.0, 1.0, 0.0],
            [-1.0, 0.0, 0.0, -1.0],
            [0.0, 1.0, -1.0, 0.0],
            [-1.0, -1.0, 0.0, 0.0],
            [0.0, -1.0, -1.0, 1.0],
            [1.0, 0.0, 1.0, -1.0],
            [1.0, 1.0, 0.0, 1.0],
        ],
        dtype=torch.float64,
    )
    J = J * torch.logspace(-4, 4, 7, dtype=J.dtype).flip(0).unsqueeze(1)
    d = weights("pcd", J, tau=0.0) @ J
    assert ((J @ d) / J.norm(dim=1)).min() >= -1e-7 * d.norm()


def test_pcd_whose_constraints_hold_is_the_primary_gradient() -> None:
    J = torch.tensor([[2.0, 1.0], [1.0, 3.0], [0.5, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(weights("pcd", J), torch.tensor([1.0, 0.0, 0.0]).double())


def test_pcd_of_two_tasks_adds_just_what_is_missing() -> None:
    J = torch.tensor([[1.0, 0.0], [-0.6, 0.8]], dtype=torch.float64)
    want = J[0] + (0.1 + 0.6) * J[1]
    got = weights("pcd", J, tau=0.1, eps=0.0) @ J
    torch.testing.assert_close(got, want / want.norm())


def test_pcd_drops_constraints_that_cannot_hold_together() -> None:
    J = gradients(5, 3)
    J[2] = -J[1]
    torch.testing.assert_close(weights("pcd", J) @ J, J[0])
    J[2] = -J[1] + 1e-9 * J[2]
    torch.testing.assert_close(weights("pcd", J) @ J, J[0])
    # Without a share, standing still on both is allowed.
    d = weights("pcd", J, tau=0.0) @ J
    assert (J[1:] @ d).abs().max() <= 1e-6


def test_pcd_without_a_primary_gradient_or_a_way_to_go_does_not_move() -> None:
    J = gradients(5, 3)
    J[0] = 0
    assert not weights("pcd", J).any()
    J = gradients(5, 2)
    J[1] = -2 * J[0]
    assert not weights("pcd", J, tau=0.0).any()


def test_pcd_averages_the_squared_norms_over_the_steps() -> None:
    J = torch.tensor([[1.0, 0.0], [-0.6, 0.8]], dtype=torch.float64)
    method = PCD(tau=0.1, beta=0.5, eps=0.0)
    ones = torch.ones(2, dtype=torch.float64)
    method.direction(J, ones)
    d = method.direction(torch.stack([J[0], 2 * J[1]]), ones)
    # The second gradient's square averages to (1 / 4 + 4 / 2) / (3 / 4) = 3.
    unit, other = J[0], 2 * J[1] / 3**0.5
    want = unit + (0.1 - unit @ other / (other @ other)) * other
    torch.testing.assert_close(d, want / want.norm())


def test_pcd_follows_its_primary_task_when_others_are_absent() -> None:
    J, L = gradients(6, 4), losses(6, 4)
    method = PCD(primary=2, tau=[0.1, 0.2, 0.0, 0.4])
    with method.only(torch.tensor([1, 2, 3]), 4):
        got = method.direction(J[1:], L[1:])
    torch.testing.assert_close(got, PCD(primary=1, tau=[0.2, 0.0, 0.4]).direction(J[1:], L[1:]))
    assert method.count.isnan().tolist() == [True, False, False, False]
    with (
        pytest.raises(ValueError, match="primary task, at position 2"),
        method.only(torch.tensor([0, 1]), 4),
    ):
        method.direction(J[:2], L[:2])


def test_pcd_says_what_its_options_are() -> None:
    for options in ({"tau": 1.5}, {"tau": [0.1, -0.1]}):
        with pytest.raises(ValueError, match="tau"):
            PCD(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="beta"):
        PCD(beta=1.0)
    with pytest.raises(ValueError, match="eps"):
        PCD(eps=-1.0)
    with pytest.raises(ValueError, match="primary"):
        PCD(primary=-1)
    with pytest.raises(ValueError, match="among the 3 tasks"):
        weights("pcd", gradients(0, 3), primary=3)
    with pytest.raises(ValueError, match="pcd: option 'tau' has 2 values"):
        weights("pcd", gradients(0, 3), tau=[0.1, 0.2])


# --- IMGrad ------------------------------------------------------------------------------------------


def objective(J: Tensor, v: Tensor, mu: Tensor, c: float) -> Tensor:
    mean, vectors = J.mean(0), v @ J
    return (1.5 - mu) * (vectors @ mean) + mu * c * mean.norm() * vectors.norm(dim=-1)


@few
@given(seed=seeds, tasks=st.integers(2, 8), c=st.sampled_from([0.1, 0.8, 2.0]))
def test_no_other_point_of_the_simplex_is_better_than_that_of_imgrad(
    seed: int, tasks: int, c: float
) -> None:
    J = gradients(seed, tasks)
    added = weights("imgrad", J, c=c) - 1 / tasks
    v = added.clamp_min(0) / added.sum()
    mu = cosine(J.mean(0), weights("mgda", J) @ J)
    generator = torch.Generator().manual_seed(seed)
    others = torch.rand(500, tasks, generator=generator, dtype=J.dtype).pow(3)
    others = torch.cat([others, v + 0.01 * others, torch.eye(tasks, dtype=J.dtype)])
    others = others / others.sum(1, keepdim=True)
    best = objective(J, v, mu, c)
    assert best <= objective(J, others, mu, c).min() + 1e-9 * J.square().sum()


@few
@given(seed=seeds, tasks=st.integers(2, 8), c=st.floats(0.01, 2))
def test_imgrad_lies_on_the_ball_around_the_mean(seed: int, tasks: int, c: float) -> None:
    J = gradients(seed, tasks)
    mean = J.mean(0)
    moved = weights("imgrad", J, c=c) @ J - mean
    assert moved.norm().item() == pytest.approx(c * mean.norm().item(), rel=1e-9)


def test_imgrad_of_equal_tasks_is_cagrad() -> None:
    J = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(weights("imgrad", J), weights("cagrad", J, c=0.8))


def test_imgrad_where_one_task_dominates_looks_at_the_one_that_the_mean_helps_least() -> None:
    J = torch.diag(torch.tensor([1e4, 1.0, 1e-2], dtype=torch.float64))
    J[1, 0] = -1.0
    added = weights("imgrad", J) - 1 / 3
    assert added.argmax() == 1
    assert added[1] > 1e3 * added[0].abs()


def test_imgrad_at_a_stationary_point_follows_the_mean_and_the_worst_task() -> None:
    J = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    mean = J.mean(0)
    want = mean + 0.8 * mean.norm() * J[0] / J[0].norm()
    torch.testing.assert_close(weights("imgrad", J) @ J, want)


def test_imgrad_rescales_as_cagrad_does() -> None:
    J = gradients(0, 3)
    plain = weights("imgrad", J)
    torch.testing.assert_close(weights("imgrad", J, rescale=1), plain / 1.64)
    torch.testing.assert_close(weights("imgrad", J, rescale=2), plain / 1.8)
    torch.testing.assert_close(weights("imgrad", J, c=0.0) @ J, J.mean(0))


def test_imgrad_says_what_its_options_are() -> None:
    with pytest.raises(ValueError, match="'c'"):
        IMGrad(c=-0.1)
    with pytest.raises(ValueError, match="rescale"):
        IMGrad(rescale=3)  # type: ignore[arg-type]


# --- FERERO ------------------------------------------------------------------------------------------


def slow_ferero(J: Tensor, L: Tensor, p: Tensor, rate: float) -> Tensor:
    """The primal programme."""
    cp = pytest.importorskip("cvxpy")
    pytest.importorskip("clarabel")
    d, worst, kappa = cp.Variable(J.shape[1]), cp.Variable(), cp.Variable()
    gains = J.numpy() @ d
    problem = cp.Problem(
        cp.Maximize(worst - cp.sum_squares(d) / 2),
        [gains >= worst, gains == rate * L.numpy() + kappa * p.numpy()],
    )
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    return torch.from_numpy(np.asarray(d.value))


@few
@given(seed=seeds, tasks=st.integers(1, 7), rate=st.sampled_from([0.0, 0.1, 1.0]))
def test_ferero_solves_the_primal_problem(seed: int, tasks: int, rate: float) -> None:
    J, L, p = gradients(seed, tasks), losses(seed, tasks), losses(seed + 5, tasks)
    want = slow_ferero(J, L, p, rate)
    got = weights("ferero", J, L, preference=p.tolist(), rate=rate) @ J
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4 * float(want.norm()) + 1e-7)


@few
@given(seed=seeds, tasks=st.integers(2, 20), rate=st.floats(0, 2), size=st.integers(20, 40))
def test_ferero_closes_in_on_the_ray_at_its_rate(
    seed: int, tasks: int, rate: float, size: int
) -> None:
    J, L, p = gradients(seed, tasks, size), losses(seed, tasks), losses(seed + 5, tasks)
    p = p / p.norm()
    left = J @ (weights("ferero", J, L, preference=p.tolist(), rate=rate) @ J) - rate * L
    assert (left - (left @ p) * p).norm() <= 1e-9 * (1 + left.norm())


def test_ferero_on_the_ray_takes_all_losses_down_along_it() -> None:
    J, p = gradients(7, 3), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    gains = J @ (weights("ferero", J, 5 * p, preference=[1.0, 2.0, 3.0]) @ J)
    torch.testing.assert_close(gains, gains[0] * p)
    assert gains[0] > 0


def test_ferero_reaches_the_ray_of_its_preference_on_the_pareto_front() -> None:
    preference = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    method = FERERO(preference.tolist())
    centres = torch.eye(3, dtype=torch.float64)
    x = torch.tensor([0.9, 0.1, 0.3], dtype=torch.float64)
    for _ in range(750):
        J = 2 * (x - centres)
        x = x - 0.02 * method.direction(J, (x - centres).square().sum(1))
    L = (x - centres).square().sum(1)
    assert cosine(L, preference) > 1 - 1e-4
    # On the front, x is a convex combination of the centres.
    assert x.sum().item() == pytest.approx(1, abs=0.02)


def test_ferero_only_compares_preferences() -> None:
    J, L = gradients(4, 3), losses(4, 3)
    once = weights("ferero", J, L, preference=[1.0, 2.0, 4.0])
    torch.testing.assert_close(weights("ferero", J, L, preference=[5.0, 10.0, 20.0]), once)
    equal = weights("ferero", J, L, preference=[3.0, 3.0, 3.0])
    torch.testing.assert_close(weights("ferero", J, L), equal)


def test_ferero_with_a_task_without_gradient_moves_the_others_to_its_ray() -> None:
    J, L = gradients(8, 3), torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    J[2] = 0
    gains = J @ (weights("ferero", J, L) @ J)
    torch.testing.assert_close(gains, L - 1)


def test_ferero_with_dependent_gradients_meets_its_constraint_where_it_can() -> None:
    J, L = gradients(8, 3, 2), losses(8, 3)
    gains = J @ (weights("ferero", J, L) @ J)
    torch.testing.assert_close(gains - L, (gains - L).mean().expand(3))
    J[1], L[1] = 2 * J[0], 2 * L[0]
    gains = J @ (weights("ferero", J, L, preference=[1.0, 2.0, 1.5]) @ J)
    assert gains.isfinite().all()


def test_ferero_says_what_its_options_are() -> None:
    for preference in ([-1.0, 1.0], [0.0, 0.0]):
        with pytest.raises(ValueError, match="preference"):
            FERERO(preference)
    with pytest.raises(ValueError, match="rate"):
        FERERO(rate=-1.0)
    with pytest.raises(ValueError, match="ferero: option 'preference' has 2 values"):
        weights("ferero", gradients(0, 3), preference=[1.0, 2.0])
