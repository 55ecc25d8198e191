"""CAGrad's dual against conic solvers, and against its own optimality conditions."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from gramians import STATIONARY, gramian, jacobian, jacobians, many, seeds, stack
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from equipoise.solvers import cagrad_dual, min_norm

radii = st.sampled_from([0.1, 0.4, 0.5, 0.9, 3.0])


def worst(J: Tensor, x: Tensor) -> float:
    """The worst improvement of the direction."""
    return float((J @ (J.mean(0) + x @ J)).min())


@many
@given(J=jacobians(), c=radii)
def test_the_direction_lies_in_the_ball_and_no_dual_weights_promise_more(
    J: Tensor, c: float
) -> None:
    solution = cagrad_dual(J @ J.mT, c)
    x = solution.x
    assert solution.residual <= 1e-8
    assert x.min() >= 0
    mean = J.mean(0)
    radius = c * mean.norm()
    size = J.norm(dim=1).max()
    assert (x @ J).norm() <= radius * (1 + 1e-8) + 1e-12 * size
    # Weak duality: every point of the simplex bounds the worst improvement of every direction.
    candidates = [min_norm(J @ J.mT).x] + ([x / x.sum()] if x.sum() > 0 else [])
    bounds = [float(w @ J @ mean + radius * (w @ J).norm()) for w in candidates]
    assert abs(min(bounds) - worst(J, x)) <= 1e-8 * float(size**2) or c * mean.norm() == 0


@many
@given(J=jacobians(largest=4), c=radii, exponent=st.integers(-12, 12))
def test_the_answer_does_not_depend_on_the_size_of_the_gramian(
    J: Tensor, c: float, exponent: int
) -> None:
    factor = 4.0 ** round(exponent * 1.66)
    G = J @ J.mT
    assert torch.equal(cagrad_dual(factor * G, c).x, cagrad_dual(G, c).x)


@pytest.mark.parametrize("tasks", [1, 2, 3, 6, 13])
@pytest.mark.parametrize("c", [0.2, 0.5, 2.0])
def test_a_batch_equals_its_members(tasks: int, c: float) -> None:
    G = stack(tasks, 24)
    together = cagrad_dual(G.view(2, 12, tasks, tasks), c).x.view(24, tasks)
    for g, x in zip(G, together, strict=True):
        mean = torch.full_like(x, 1 / tasks)
        here = (g @ (mean + x)).min()
        alone = (g @ (mean + cagrad_dual(g, c).x)).min()
        assert abs(here - alone) <= 1e-9 * g.diagonal().max()


@pytest.mark.parametrize("tasks", [3, 12])
@pytest.mark.parametrize("c", [0.4, 0.9])
def test_clarabel_finds_no_better_direction(tasks: int, c: float) -> None:
    cvxpy = pytest.importorskip("cvxpy")
    pytest.importorskip("clarabel")
    for seed in range(6):
        J = jacobian(seed, tasks, ("none", "conflict")[seed % 2], size=15)
        mean = J.mean(0)
        w = cvxpy.Variable(tasks, nonneg=True)
        radius = c * float(mean.norm())
        value = (J @ mean).numpy() @ w + radius * cvxpy.norm(J.mT.numpy() @ w)
        problem = cvxpy.Problem(cvxpy.Minimize(value), [cvxpy.sum(w) == 1])
        tight = {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}
        problem.solve(solver=cvxpy.CLARABEL, **tight)
        ours = worst(J, cagrad_dual(J @ J.mT, c).x)
        assert abs(ours - problem.value) <= 1e-8 * float(J.norm(dim=1).max() ** 2)


@many
@given(seed=seeds, tasks=st.integers(2, 6))
def test_a_large_ball_gives_the_direction_of_the_min_norm_point(seed: int, tasks: int) -> None:
    J = jacobian(seed, tasks, size=12)
    G = J @ J.mT
    d = J.mean(0) + cagrad_dual(G, 1e7).x @ J
    shortest = min_norm(G).x @ J
    assert torch.nn.functional.cosine_similarity(d, shortest, dim=0) > 1 - 1e-5


def test_no_ball_is_the_mean() -> None:
    assert torch.count_nonzero(cagrad_dual(gramian(0, 4), 0.0).x) == 0


@pytest.mark.parametrize("defect", STATIONARY)
@pytest.mark.parametrize("tasks", [2, 4])
def test_stationary_gradients_get_a_direction_that_hurts_least(defect: str, tasks: int) -> None:
    J = jacobian(3, tasks, defect)
    x = cagrad_dual(J @ J.mT, 0.4).x
    mean = J.mean(0)
    assert x.isfinite().all()
    assert (x @ J).norm() <= 0.4 * mean.norm() * (1 + 1e-9)
    # No direction of the ball, sampled on its surface, does better for the worst task.
    noise = torch.randn(500, J.shape[1], generator=torch.Generator().manual_seed(0), dtype=J.dtype)
    noise = noise @ torch.linalg.pinv(J) @ J
    others = mean + 0.4 * mean.norm() * noise / noise.norm(dim=1, keepdim=True).clamp_min(1e-300)
    assert worst(J, x) >= (others @ J.mT).min(1)[0].max() - 1e-9 * float(J.norm() ** 2)


def test_two_tasks_of_the_textbook() -> None:
    J = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)
    x = cagrad_dual(J @ J.mT, 0.5).x
    expected = 0.5 * math.sqrt(3) / math.sqrt(18)
    torch.testing.assert_close(x, torch.tensor([expected, 0.0], dtype=torch.float64))


@given(
    st.integers(2, 4),
    st.integers(1, 3),
    st.floats(0, 16),
    st.integers(0, 2**31),
)
def test_nearly_opposite_gradients_are_solved_up_to_their_rounding(
    tasks: int, size: int, digits: float, seed: int
) -> None:
    """Their mean is all rounding, so its length cannot be met better than that."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(tasks, size, dtype=torch.float64, generator=draw)
    rows[1] = -rows[0] * (1 + 10.0**-digits)
    gramian = rows @ rows.T
    for given_as in (gramian, gramian.expand(2, tasks, tasks)):
        x = cagrad_dual(given_as, 0.4).accept(given_as, "cagrad")
        assert x.isfinite().all()


def test_every_problem_of_a_batch_may_have_its_own_radius() -> None:
    generator = torch.Generator().manual_seed(3)
    J = torch.randn(3, 4, 6, generator=generator, dtype=torch.float64)
    radii = torch.tensor([0.0, 0.4, 1.5], dtype=torch.float64)
    together = cagrad_dual(J @ J.mT, radii).x
    for rows, c, got in zip(J, radii, together, strict=True):
        torch.testing.assert_close(cagrad_dual(rows @ rows.mT, c).x, got)
        torch.testing.assert_close(cagrad_dual(rows @ rows.mT, float(c)).x, got)


def test_pivoting_settles_ordinary_gradients_without_the_bracket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bracket gives the same answer and takes far longer, so nothing else would show it."""

    def bracket(*_: object) -> None:
        raise AssertionError("pivoting gave up")

    monkeypatch.setattr(sys.modules["equipoise.solvers.cagrad_dual"], "_bracket", bracket)
    for seed in range(100):
        rows = jacobian(seed, 5, "conflict" if seed % 2 else "none")
        assert cagrad_dual(rows @ rows.mT, 0.4).residual <= 1e-8
