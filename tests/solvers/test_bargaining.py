"""The bargaining systems: their equation, degenerate Gramians, large alpha."""

from __future__ import annotations

import sys

import pytest
import torch
from gramians import DEFECTS, STATIONARY, gramian, jacobian, jacobians, many, seeds, stack
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from equipoise.solvers import SolverError, bargaining

REGULAR = tuple(d for d in DEFECTS if d not in (*STATIONARY, "few parameters"))
powers = st.sampled_from([0.1, 0.2, 0.5, 1.0, 2.0])


def mismatch(G: Tensor, w: Tensor, power: float, shares: Tensor | float = 1.0) -> Tensor:
    """Relative violation of the equation, row by row."""
    return (G @ w) * (w / shares) ** power - 1


@many
@given(J=jacobians(defects=REGULAR), power=powers)
def test_every_task_gains_the_power_of_its_inverse_weight(J: Tensor, power: float) -> None:
    G = J @ J.mT if len(J) < J.shape[1] else J @ J.mT + J.norm() ** 2 * torch.eye(len(J)).double()
    solution = bargaining(G, power)
    assert solution.residual <= 1e-10
    assert solution.x.min() > 0
    # Rounding of the gains is relative to the terms that cancel in them.
    terms = (G.abs() @ solution.x) / (G @ solution.x).abs()
    assert bool((mismatch(G, solution.x, power).abs() <= 1e-8 * terms).all())


@many
@given(seed=seeds, tasks=st.integers(1, 6), power=powers, exponent=st.integers(-12, 12))
def test_weights_scale_with_the_gramian_as_the_equation_says(
    seed: int, tasks: int, power: float, exponent: int
) -> None:
    G, factor = gramian(seed, tasks), 10.0**exponent
    expected = bargaining(G, power).x * factor ** (-1 / (1 + power))
    torch.testing.assert_close(bargaining(factor * G, power).x, expected, rtol=1e-9, atol=0)


@many
@given(seed=seeds, tasks=st.integers(2, 6))
def test_nash_weights_ignore_the_units_of_the_tasks(seed: int, tasks: int) -> None:
    G = gramian(seed, tasks)
    units = torch.logspace(-4, 4, tasks, dtype=G.dtype)
    scaled = bargaining(G * units * units.unsqueeze(1)).x
    torch.testing.assert_close(scaled * units, bargaining(G).x, rtol=1e-8, atol=0)


@many
@given(seed=seeds, tasks=st.integers(1, 6), power=powers)
def test_shares_enter_as_in_the_equation(seed: int, tasks: int, power: float) -> None:
    G = gramian(seed, tasks)
    shares = torch.logspace(-1, 1, tasks, dtype=G.dtype)
    w = bargaining(G, power, shares).x
    assert mismatch(G, w, power, shares).abs().max() < 1e-8


@pytest.mark.parametrize("tasks", [1, 2, 3, 6, 13])
@pytest.mark.parametrize("power", [0.5, 1.0])
def test_a_batch_equals_its_members(tasks: int, power: float) -> None:
    G = stack(tasks, 24, REGULAR)
    G = G + 1e-6 * G.diagonal(dim1=-2, dim2=-1).diag_embed()
    shares = torch.linspace(0.5, 2.0, tasks, dtype=G.dtype)
    together = bargaining(G.view(2, 12, tasks, tasks), power, shares).x.view(24, tasks)
    for g, w in zip(G, together, strict=True):
        torch.testing.assert_close(bargaining(g, power, shares).x, w, rtol=1e-7, atol=0)


@pytest.mark.parametrize("tasks", [3, 13])
@pytest.mark.parametrize("power", [0.2, 0.5, 1.0])
def test_a_zero_gradient_gets_the_mean_weight_of_the_others(tasks: int, power: float) -> None:
    G = gramian(0, tasks, size=30)
    G[1] = 0
    G[:, 1] = 0
    others = [k for k in range(tasks) if k != 1]
    w = bargaining(G, power).x
    torch.testing.assert_close(w[others], bargaining(G[others][:, others], power).x)
    torch.testing.assert_close(w[1], w[others].mean())
    assert torch.equal(bargaining(torch.zeros_like(G), power).x, torch.ones_like(w))


@pytest.mark.parametrize("defect", ["opposite", "scaled opposite", "rank 1", "sum zero"])
@pytest.mark.parametrize("tasks", [2, 4, 13])
@pytest.mark.parametrize("power", [0.5, 1.0])
def test_a_stationary_point_has_no_update_and_modest_weights(
    defect: str, tasks: int, power: float
) -> None:
    J = jacobian(2, tasks, defect, size=20)
    w = bargaining(J @ J.mT, power).x
    alone = J.norm(dim=1) ** (-2 / (1 + power))
    assert w.min() > 0
    assert bool((w <= alone * (1 + 1e-9)).all())
    assert (w @ J).norm() <= 1e-5 * (w * J.norm(dim=1)).max()


def test_orthogonal_gradients_in_closed_form() -> None:
    squares = torch.logspace(-8, 8, 5, dtype=torch.float64)
    for power in (0.1, 0.5, 1.0):
        expected = squares ** (-1 / (1 + power))
        torch.testing.assert_close(
            bargaining(squares.diag(), power).x, expected, rtol=1e-10, atol=0
        )


def test_equal_gradients_share_equally() -> None:
    w = bargaining(4.0 * torch.ones(4, 4, dtype=torch.float64)).x
    torch.testing.assert_close(w, torch.full_like(w, 0.25))


def test_a_large_power_tends_to_equal_weights_where_the_sum_conflicts_with_no_task() -> None:
    w = bargaining(gramian(1, 4).abs(), power=1000.0).x
    torch.testing.assert_close(w, torch.ones_like(w), rtol=0.01, atol=0)


def test_a_weight_that_underflows_is_an_error_not_an_answer() -> None:
    G = gramian(1, 3)
    units = torch.logspace(-4, 4, 3, dtype=G.dtype)
    G = (G + 20).abs() * units * units.unsqueeze(1)
    with pytest.raises(SolverError):
        bargaining(G, 0.002).accept(G, "fairgrad")


@pytest.mark.parametrize("tasks", [3, 12])
def test_clarabel_agrees_on_nash(tasks: int) -> None:
    cvxpy = pytest.importorskip("cvxpy")
    pytest.importorskip("clarabel")
    for seed in range(5):
        J = jacobian(seed, tasks, size=30)
        w = cvxpy.Variable(tasks)
        value = cvxpy.sum_squares(J.mT.numpy() @ w) / 2 - cvxpy.sum(cvxpy.log(w))
        tight = {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}
        cvxpy.Problem(cvxpy.Minimize(value)).solve(solver=cvxpy.CLARABEL, **tight)
        ours = bargaining(J @ J.mT).x
        torch.testing.assert_close(ours, torch.tensor(w.value), rtol=1e-4, atol=0)
        mine = float((ours @ J).square().sum() / 2 - ours.log().sum())
        theirs = torch.tensor(w.value)
        assert mine <= float((theirs @ J).square().sum() / 2 - theirs.log().sum()) + 1e-9


def test_full_steps_settle_ordinary_problems_without_the_careful_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The careful steps give the same answer and take far longer, so nothing else would show it."""

    def careful(*_: object) -> None:
        raise AssertionError("full steps did not settle it")

    monkeypatch.setattr(sys.modules["equipoise.solvers.bargaining"], "_point", careful)
    problems = torch.stack([gramian(seed, 4) for seed in range(50)])
    for power in (0.5, 1.0, 2.0):
        assert bargaining(problems, power).residual.max() <= 1e-10
