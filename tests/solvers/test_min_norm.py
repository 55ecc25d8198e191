"""The min-norm point: optimality, degenerate Gramians, oracles."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from gramians import DEFECTS, gramian, jacobians, many, seeds, stack
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from equipoise.solvers import Solution, SolverError, bargaining, cagrad_dual, min_norm
from equipoise.solvers.min_norm import shortest


def gap(J: Tensor, weights: Tensor) -> float:
    """How far some gradient lies short of the hyperplane that the shortest point spans.

    At the min-norm point d, <g_k, d> >= |d|^2 for every k: the paper's guarantee and the optimality
    condition at once. Rounding is relative to the norms of the gradients in use.
    """
    d = weights @ J
    terms = J.norm(dim=1) * (weights * J.norm(dim=1)).sum()
    return float(((d @ d - J @ d) / terms.clamp_min(1e-300)).max())


@many
@given(J=jacobians())
def test_no_gradient_lies_short_of_the_shortest_point(J: Tensor) -> None:
    solution = min_norm(J @ J.mT)
    assert solution.residual <= 1e-9
    assert solution.x.min() >= 0
    assert abs(solution.x.sum() - 1) < 1e-12
    assert gap(J, solution.x) < 1e-9


@many
@given(J=jacobians(largest=5), exponent=st.integers(-12, 12))
def test_weights_do_not_depend_on_the_size_of_the_gramian(J: Tensor, exponent: int) -> None:
    # A power of two changes no digit, so even undetermined weights must stay.
    factor = 2.0 ** round(exponent * 3.32)
    assert torch.equal(min_norm(factor**2 * (J @ J.mT)).x, min_norm(J @ J.mT).x)


@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 15])
def test_a_batch_equals_its_members(tasks: int) -> None:
    G = stack(tasks, 24)
    together = min_norm(G.view(2, 12, tasks, tasks))
    assert together.x.shape == (2, 12, tasks)
    for g, w, r in zip(G, together.x.view(-1, tasks), together.residual.view(-1), strict=True):
        alone = min_norm(g).x
        scale = g.diagonal().min() + 1e-14 * g.diagonal().max()
        assert abs(w @ g @ w - alone @ g @ alone) <= 1e-9 * scale
        assert r < 1e-9


@pytest.mark.parametrize("tasks", [3, 12])
def test_quadprog_finds_no_shorter_point(tasks: int) -> None:
    quadprog = pytest.importorskip("quadprog")
    for seed in range(40):
        G = gramian(seed, tasks, ("none", "conflict", "nearly parallel")[seed % 3], size=40)
        constraints = torch.cat([torch.ones(tasks, 1), torch.eye(tasks)], 1).double().numpy()
        bounds = torch.tensor([1.0] + [0.0] * tasks, dtype=torch.float64).numpy()
        zeros = torch.zeros(tasks, dtype=torch.float64).numpy()
        theirs = torch.tensor(quadprog.solve_qp(G.numpy(), zeros, constraints, bounds, 1)[0])
        ours = min_norm(G).x
        assert ours @ G @ ours <= (theirs @ G @ theirs) * (1 + 1e-8)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@many
@given(seed=seeds, defect=st.sampled_from(DEFECTS))
def test_two_tasks_in_closed_form_equal_the_general_way(seed: int, defect: str) -> None:
    G = gramian(seed, 2, defect)
    # The same hull, with its first corner twice.
    three = G[[0, 0, 1]][:, [0, 0, 1]]
    w, v = min_norm(G).x, min_norm(three).x
    folded = torch.stack([v[0] + v[1], v[2]])
    assert abs(w @ G @ w - folded @ G @ folded) <= 1e-12 * G.diagonal().min()


def test_one_task_has_all_the_weight() -> None:
    assert min_norm(torch.tensor([[3.0]]).double()).x.tolist() == [1.0]
    assert min_norm(torch.zeros(1, 1).double()).x.tolist() == [1.0]


@pytest.mark.parametrize("tasks", [3, 12])
def test_zero_gradients_share_the_weight(tasks: int) -> None:
    G = gramian(0, tasks)
    G[[0, 2]] = 0
    G[:, [0, 2]] = 0
    expected = torch.zeros(tasks, dtype=torch.float64)
    expected[[0, 2]] = 0.5
    assert torch.equal(min_norm(G).x, expected)
    assert torch.equal(min_norm(torch.zeros_like(G)).x, torch.full_like(expected, 1 / tasks))


def test_orthogonal_gradients_over_eight_decades_are_weighted_by_their_inverse_squares() -> None:
    squares = torch.logspace(-8, 8, 5, dtype=torch.float64)
    expected = squares.reciprocal() / squares.reciprocal().sum()
    torch.testing.assert_close(min_norm(squares.diag()).x, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("solver", [min_norm, lambda G: cagrad_dual(G, 0.4), bargaining])
@pytest.mark.parametrize("tasks", [2, 3, 12])
def test_not_a_number_is_an_error_not_an_answer(
    solver: Callable[[Tensor], Solution], tasks: int
) -> None:
    G = gramian(0, tasks)
    G[0, 1] = G[1, 0] = torch.nan
    with pytest.raises(SolverError, match="entries that are not finite"):
        solver(G).accept(G, "solver")


def test_a_residual_above_tolerance_is_refused_with_the_gramian() -> None:
    G = gramian(0, 3)
    solution = Solution(torch.ones(3), torch.tensor(1e-3))
    with pytest.raises(SolverError, match=r"1\.0e-03.*Rescale or drop") as error:
        solution.accept(G, "min norm")
    assert error.value.gramian is G
    assert error.value.residual == solution.residual


def test_plain_floats_and_tensors_agree() -> None:
    for seed in range(30):
        G = gramian(seed, 6, size=30)
        torch.testing.assert_close(
            torch.tensor(shortest(G.tolist())[0], dtype=torch.float64),
            min_norm(G.unsqueeze(0)).x[0],
            rtol=1e-9,
            atol=1e-12,
        )
