"""ConicGrad, GradOPS, EPO and Pareto MTL against slow references written from their equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor

import equipoise
from equipoise.methods.base import GramianMethod
from equipoise.methods.epo import EPO
from equipoise.methods.pareto_mtl import ParetoMTL
from equipoise.solvers import SolverError

few = settings(max_examples=30, deadline=None, derandomize=True)
seeds = st.integers(0, 2**20)
NAMES = ("conicgrad", "gradops", "epo", "pareto_mtl")


def gradients(seed: int, tasks: int, size: int = 8) -> Tensor:
    """Task gradients with a common part, conflicts, and norms over an order of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    J = torch.randn(tasks, size, generator=generator, dtype=torch.float64)
    J = J + 0.4 * torch.randn(1, size, generator=generator, dtype=torch.float64)
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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "defect", ["zero", "all zero", "equal", "opposite", "rank one", "one parameter", "decades"]
)
@pytest.mark.parametrize("tasks", [1, 2, 3, 6, 12])
def test_defects_have_a_finite_answer_that_does_not_depend_on_the_unit(
    name: str, defect: str, tasks: int
) -> None:
    J, L = gradients(3, tasks), losses(3, tasks)
    if defect == "zero":
        J[0] = 0
    elif defect == "all zero":
        J[:] = 0
    elif defect == "equal":
        J[:] = J[0]
    elif defect == "opposite" and tasks > 1:
        J[-1] = -J[0]
    elif defect == "rank one":
        J = torch.linspace(-1, 2, tasks, dtype=J.dtype).unsqueeze(1) * J[:1]
    elif defect == "one parameter":
        J = J[:, :1]
    elif defect == "decades":
        J = J * torch.logspace(-4, 4, tasks, dtype=J.dtype).unsqueeze(1)
    w = weights(name, J, L)
    assert w.isfinite().all()
    # A power of two changes no digit.
    assert torch.equal(weights(name, 2.0**-30 * J, 2.0**10 * L), w)


# --- ConicGrad ---------------------------------------------------------------------------------------


def slow_conicgrad(J: Tensor, c: float) -> Tensor:
    """The conic programme with a proximal term, which decides the length, then the mean's length."""
    cp = pytest.importorskip("cvxpy")
    pytest.importorskip("clarabel")
    mean = J.mean(0)
    scale = float(mean.norm())
    A, g0 = J.numpy() / scale, mean.numpy() / scale
    d, t = cp.Variable(J.shape[1]), cp.Variable()
    problem = cp.Problem(
        cp.Maximize(t - cp.sum_squares(d) / 2), [A @ d >= t, c * cp.norm(d) <= g0 @ d]
    )
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    answer = torch.from_numpy(np.asarray(d.value))
    return answer * (scale / answer.norm()) if answer.norm() > 1e-4 else torch.zeros_like(mean)


@few
@given(seed=seeds, tasks=st.integers(1, 6), c=st.sampled_from([0.1, 0.25, 0.6, 0.9, 0.99]))
def test_conicgrad_solves_the_conic_programme(seed: int, tasks: int, c: float) -> None:
    J = gradients(seed, tasks)
    want = slow_conicgrad(J, c)
    got = weights("conicgrad", J, c=c) @ J
    if want.any():
        assert cosine(got, want) > 1 - 1e-7
        torch.testing.assert_close(got, want, rtol=0, atol=1e-3 * float(want.norm()))
    else:
        assert (J @ got).min() <= 1e-3 * J.norm() * got.norm()


@few
@given(seed=seeds, tasks=st.integers(2, 12), c=st.floats(0.01, 1), size=st.integers(2, 9))
def test_conicgrad_stays_in_the_cone_and_has_the_length_of_the_mean(
    seed: int, tasks: int, c: float, size: int
) -> None:
    J = gradients(seed, tasks, size)
    d = weights("conicgrad", J, c=c) @ J
    assert cosine(d, J.mean(0)) >= c - 1e-9
    assert d.norm().item() == pytest.approx(J.mean(0).norm().item(), rel=1e-8)


@few
@given(seed=seeds, tasks=st.integers(2, 6), c=st.floats(0.05, 0.99))
def test_no_other_direction_of_the_cone_helps_the_worst_task_more(
    seed: int, tasks: int, c: float
) -> None:
    J = gradients(seed, tasks)
    d = weights("conicgrad", J, c=c) @ J
    u = J.mean(0) / J.mean(0).norm()
    generator = torch.Generator().manual_seed(seed)
    other = d + 0.2 * d.norm() * torch.randn(400, len(u), generator=generator, dtype=J.dtype)
    other = other * (d.norm() / other.norm(dim=1, keepdim=True))
    inside = other[other @ u >= c * d.norm()]
    worst = (J @ d).min()
    if worst > 0:
        assert ((inside @ J.mT).amin(-1) <= worst + 1e-9 * J.norm()).all()


def test_conicgrad_is_the_mean_in_a_narrow_cone_and_mgda_in_a_wide_one() -> None:
    J = gradients(1, 4)
    torch.testing.assert_close(weights("conicgrad", J, c=1.0) @ J, J.mean(0))
    assert cosine(weights("conicgrad", J, c=1e-3) @ J, weights("mgda", J) @ J) > 1 - 1e-9


def test_conicgrad_without_a_mean_does_not_move() -> None:
    J = gradients(1, 3)
    J[2] = -J[0] - J[1]
    assert not weights("conicgrad", J).any()


@pytest.mark.parametrize("c", [0.0, -0.5, 1.5, float("nan")])
def test_conicgrad_takes_a_cosine(c: float) -> None:
    with pytest.raises(ValueError, match="cosine"):
        equipoise.method("conicgrad", c=c)


# --- GradOPS -----------------------------------------------------------------------------------------


def slow_gradops(J: Tensor) -> Tensor:
    """The deconflicted gradients, one least-squares problem after the other."""
    rows = []
    for i, g in enumerate(J):
        rest = torch.cat([J[:i], J[i + 1 :]])
        if bool((rest @ g < 0).any()):
            g = g - (torch.linalg.pinv(rest.mT, rtol=1e-10) @ g) @ rest
        rows.append(g)
    return torch.stack(rows)


@few
@given(seed=seeds, tasks=st.integers(1, 8), alpha=st.sampled_from([0.0, 1.0, -3.0]))
def test_gradops_projects_conflicting_gradients_off_the_span_of_all_others(
    seed: int, tasks: int, alpha: float
) -> None:
    J = gradients(seed, tasks)
    apart = slow_gradops(J)
    want = apart.sum(0)
    if alpha:
        gains = (J @ want) / J.square().sum(1)
        kept = apart.norm(dim=1) > 1e-9 * J.norm(dim=1)
        powers = torch.where(kept, gains, 1.0) ** alpha * kept
        want = powers / powers.sum() * kept.sum() @ apart
    torch.testing.assert_close(
        weights("gradops", J, alpha=alpha) @ J, want, rtol=1e-6, atol=1e-7 * float(J.norm())
    )


@few
@given(
    seed=seeds,
    tasks=st.integers(2, 8),
    size=st.integers(2, 12),
    alpha=st.sampled_from([0.0, -3.0, 2.0]),
)
def test_gradops_never_conflicts_with_a_task(
    seed: int, tasks: int, size: int, alpha: float
) -> None:
    J = gradients(seed, tasks, size)
    d = weights("gradops", J, alpha=alpha) @ J
    assert (J @ d).min() >= -1e-7 * J.norm() * (d.norm() + 1e-6 * J.norm())


def test_gradops_of_two_tasks_is_pcgrad() -> None:
    for seed in range(10):
        J = gradients(seed, 2)
        torch.testing.assert_close(weights("gradops", J) @ J, weights("pcgrad", J) @ J)


def test_alpha_weights_by_what_the_sum_does_for_each_task() -> None:
    J = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    for alpha, want in ((0.0, [2.0, 1.0]), (1.0, [2.4, 0.6]), (-1.0, [1.5, 1.5])):
        got = weights("gradops", J, alpha=alpha) @ J
        torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


def test_gradops_refuses_an_alpha_without_end() -> None:
    with pytest.raises(ValueError, match="alpha"):
        equipoise.method("gradops", alpha=float("inf"))


# --- EPO ---------------------------------------------------------------------------------------------


def slow_epo(G: Tensor, L: Tensor, r: Tensor, epsilon: float = 1e-4) -> tuple[float, Tensor]:
    """The optimum of the step's linear programme, and its objective."""
    K = len(L)
    r = r / r.sum()
    hat = r * L / (r * L).sum()
    mu = float((hat * (K * hat).log()).sum())
    a = r * ((K * hat).log() - mu)
    Ga = (G @ a).numpy()
    A, b = list(G.numpy()), [0.0] * K
    if mu > epsilon:
        c = Ga
        if (Ga > 0).any():
            b = [-np.inf if v > 0 else float(v) for v in Ga]
            b[int(hat.argmax())] = 0.0
    else:
        c = G.sum(0).numpy()
        A.append(Ga)
        b.append(min(0.0, float(Ga.max())))
    kept = [i for i, bound in enumerate(b) if bound > -np.inf]
    for last in (len(kept), K):  # the restriction comes last, and goes where it cannot hold
        found = linprog(
            -c,
            A_ub=-np.stack([A[i] for i in kept[:last]]),
            b_ub=[-b[i] for i in kept[:last]],
            A_eq=np.ones((1, K)),
            b_eq=[1.0],
            method="highs",
        )
        if found.status == 0:
            break
    assert found.status == 0
    return -float(found.fun), torch.from_numpy(np.asarray(c))


@few
@given(seed=seeds, tasks=st.integers(1, 7), balanced=st.booleans())
def test_epo_solves_the_linear_programme(seed: int, tasks: int, balanced: bool) -> None:
    J, L = gradients(seed, tasks, 4), losses(seed, tasks)
    r = losses(seed + 7, tasks)
    if balanced:
        L = (1 + 0.002 * torch.rand(tasks, dtype=L.dtype)) / r
    G = J @ J.mT
    w = weights("epo", J, L, preference=r.tolist())
    best, objective = slow_epo(G, L, r)
    assert w.min() >= 0
    assert w.sum().item() == pytest.approx(1)
    assert (objective @ w).item() == pytest.approx(best, rel=1e-7, abs=1e-8 * float(G.abs().max()))
    gains = G @ w
    worst = int((r * L).argmax())
    assert gains[worst] >= -1e-9 * G.abs().max()
    if balanced:
        assert gains.min() >= -1e-9 * G.abs().max()


def minimise(method: GramianMethod, steps: int, rate: float) -> Tensor:
    """The losses where gradient descent on three bowls ends."""
    centres = torch.eye(3, dtype=torch.float64)
    x = torch.tensor([0.9, 0.1, 0.3], dtype=torch.float64)
    for _ in range(steps):
        J = 2 * (x - centres)
        L = (x - centres).square().sum(1)
        x = x - rate * method.direction(J, L)
    return (x - centres).square().sum(1)


def test_epo_reaches_the_ray_of_the_preference_on_the_pareto_front() -> None:
    preference = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    L = minimise(EPO(preference.tolist()), 1000, 0.02)
    weighted = preference * L
    assert weighted.max() / weighted.min() < 1.1


def test_epo_only_compares_preferences() -> None:
    J, L = gradients(4, 3), losses(4, 3)
    once = weights("epo", J, L, preference=[1.0, 2.0, 4.0])
    torch.testing.assert_close(weights("epo", J, L, preference=[10.0, 20.0, 40.0]), once)


def test_relaxed_epo_descends_at_least_as_far_once_balanced() -> None:
    for seed in range(20):
        J = gradients(seed, 4, 3)
        L = torch.tensor([1.0, 1.004, 0.996, 1.002], dtype=torch.float64)
        G = J @ J.mT
        gains = [(G @ weights("epo", J, L, relaxed=relaxed)).sum() for relaxed in (True, False)]
        assert gains[0] >= gains[1] - 1e-9 * G.abs().max()


def test_epo_says_what_a_preference_is() -> None:
    with pytest.raises(ValueError, match="preference"):
        EPO([1.0, 0.0])
    with pytest.raises(ValueError, match="epo: option 'preference' has 2 values"):
        weights("epo", gradients(0, 3), preference=[1.0, 2.0])


# --- Pareto MTL --------------------------------------------------------------------------------------


def slow_pareto_mtl(
    J: Tensor, L: Tensor, u: Tensor, others: Tensor, epsilon: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The direction of the paper's primal problem, and the gradients it has to descend."""
    cp = pytest.importorskip("cvxpy")
    pytest.importorskip("clarabel")
    u = u / u.norm()
    rows = list(J)
    for v in others:
        border = v / v.norm() - u
        if border.norm() > 1e-9 and border @ L / L.norm() > -epsilon:
            rows.append(border @ J)
    A = torch.stack(rows)
    d, a = cp.Variable(J.shape[1]), cp.Variable()
    problem = cp.Problem(cp.Minimize(a + cp.sum_squares(d) / 2), [A.numpy() @ d <= a])
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    return -torch.from_numpy(np.asarray(d.value)), A


@few
@given(seed=seeds, tasks=st.integers(1, 5), given_others=st.booleans())
def test_pareto_mtl_solves_the_primal_problem(seed: int, tasks: int, given_others: bool) -> None:
    J, L, u = gradients(seed, tasks), losses(seed, tasks), losses(seed + 3, tasks)
    others = torch.eye(tasks, dtype=J.dtype)
    options: dict[str, Any] = {"preference": u.tolist(), "epsilon": 0.05}
    if given_others:
        others = torch.stack([losses(seed + i, tasks) for i in range(4, 10)])
        options["others"] = others.tolist()
    want, A = slow_pareto_mtl(J, L, u, others, 0.05)
    d = weights("pareto_mtl", J, L, **options) @ J
    torch.testing.assert_close(d, want, rtol=0, atol=2e-4 * float(J.norm()))
    assert (A @ d >= d @ d - 1e-9 * A.square().sum(1).max()).all()


def test_pareto_mtl_within_the_sector_is_mgda() -> None:
    J = gradients(2, 3)
    L = torch.tensor([1.0, 1.1, 0.9], dtype=torch.float64)
    torch.testing.assert_close(weights("pareto_mtl", J, L) @ J, weights("mgda", J) @ J)


def test_pareto_mtl_ends_in_the_sector_of_its_preference() -> None:
    preference, others = [1.0, 2.0, 2.0], [[1.0, 1.0, 1.0], [2.0, 1.0, 2.0], [2.0, 2.0, 1.0]]
    L = minimise(ParetoMTL(preference, others, approach=500), 2000, 0.01)
    angles = cosine(torch.tensor([preference, *others], dtype=L.dtype), L)
    assert angles[0] >= angles[1:].max() - 1e-3


def test_pareto_mtl_approaches_by_the_borders_alone_and_only_until_it_has_arrived() -> None:
    J = gradients(6, 2)
    out, within = (torch.tensor(v, dtype=torch.float64) for v in ([3.0, 0.1], [1.0, 1.0]))
    method = ParetoMTL(approach=2)
    G = J @ J.mT
    border = torch.tensor([1.0, 0.0], dtype=J.dtype) - 0.5**0.5
    torch.testing.assert_close(method.weights(G, out), border)
    torch.testing.assert_close(method.weights(G, out), border)
    torch.testing.assert_close(method.weights(G, out), ParetoMTL().weights(G, out))
    method = ParetoMTL(approach=5)
    method.weights(G, within)
    torch.testing.assert_close(method.weights(G, out), ParetoMTL().weights(G, out))


def test_an_approach_that_is_resumed_goes_on_where_it_stopped() -> None:
    J = gradients(6, 2)
    out = torch.tensor([3.0, 0.1], dtype=torch.float64)
    whole, first, second = (ParetoMTL(approach=3) for _ in range(3))
    answers = [whole.weights(J @ J.mT, out) for _ in range(5)]
    for want in answers[:2]:
        assert torch.equal(first.weights(J @ J.mT, out), want)
    second.load_state_dict(first.state_dict())
    for want in answers[2:]:
        assert torch.equal(second.weights(J @ J.mT, out), want)


def test_pareto_mtl_says_what_its_vectors_are() -> None:
    with pytest.raises(ValueError, match="preference"):
        ParetoMTL([-1.0, 1.0])
    with pytest.raises(ValueError, match="others"):
        ParetoMTL(others=[[0.0, 0.0]])
    with pytest.raises(ValueError, match="pareto_mtl: option 'others' has 2 values"):
        weights("pareto_mtl", gradients(0, 3), others=[[1.0, 0.0]])
    with pytest.raises(ValueError, match="losses that are all 0"):
        weights("pareto_mtl", gradients(0, 2), torch.zeros(2, dtype=torch.float64))


def test_a_solver_that_fails_names_the_method() -> None:
    J = torch.full((3, 2), torch.nan, dtype=torch.float64)
    for name in ("conicgrad", "epo"):
        with pytest.raises(SolverError, match=name):
            weights(name, J, losses(0, 3))
