"""Non-negative QPs: the dual cone, oracles, degenerate Gramians."""

from __future__ import annotations

import pytest
import torch
from gramians import gramian, jacobian, jacobians, many, stack
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from equipoise.solvers import SolverError, dual_cone, nonnegative_qp
from equipoise.solvers.active_set import _one_at_a_time, active_set, violation


def projections(J: Tensor) -> tuple[Tensor, Tensor]:
    """Every gradient projected on the dual cone, ``Tensor[K, P]``, and the multipliers."""
    solution = nonnegative_qp(J @ J.mT, J @ J.mT)
    assert bool((solution.residual <= 1e-9).all())
    return J + solution.x @ J, solution.x


@many
@given(J=jacobians())
def test_projections_conflict_with_no_gradient(J: Tensor) -> None:
    projected, x = projections(J)
    assert x.min() >= 0
    norms = J.norm(dim=1)
    # Moreau: what is added is orthogonal to the projection, and both are no longer than the gradient.
    conflicts = J @ projected.mT / (norms[:, None] * norms).clamp_min(1e-300)
    assert conflicts.min() >= -1e-9 * (1 + (x * norms / norms[:, None].clamp_min(1e-300)).max())
    assert bool((projected.norm(dim=1) <= norms * (1 + 1e-9)).all())


@many
@given(J=jacobians(largest=4), exponent=st.integers(-12, 12))
def test_multipliers_do_not_depend_on_the_size_of_the_gramian(J: Tensor, exponent: int) -> None:
    factor = 4.0 ** round(exponent * 1.66)
    G = J @ J.mT
    assert torch.equal(nonnegative_qp(factor * G, factor * G).x, nonnegative_qp(G, G).x)


@many
@given(J=jacobians(largest=5), k=st.integers(0, 4), power=st.integers(-12, 12))
def test_a_projection_scales_with_its_gradient(J: Tensor, k: int, power: int) -> None:
    k = k % len(J)
    scaled = J.clone()
    scaled[k] *= 2.0**power
    before, _ = projections(J)
    after, _ = projections(scaled)
    limit = 1e-7 * J[k].norm() * 2.0**power
    assert (after[k] - 2.0**power * before[k]).norm() <= limit


@pytest.mark.parametrize("tasks", [1, 2, 4, 7, 14])
def test_a_batch_equals_its_members(tasks: int) -> None:
    G = stack(tasks, 24)
    together = nonnegative_qp(G.view(3, 8, tasks, tasks), G.view(3, 8, tasks, tasks))
    assert together.x.shape == (3, 8, tasks, tasks)
    for g, x in zip(G, together.x.view(24, tasks, tasks), strict=True):
        difference = x - nonnegative_qp(g, g).x
        # Only J^T x is determined; its square is known to rounding.
        lengths = (difference * (difference @ g)).sum(-1)
        assert bool((lengths.abs() <= 1e-9 * g.diagonal()).all())


@pytest.mark.parametrize("tasks", [3, 12])
def test_quadprog_gives_the_same_projections(tasks: int) -> None:
    quadprog = pytest.importorskip("quadprog")
    for seed in range(20):
        G = gramian(seed, tasks, ("none", "conflict")[seed % 2], size=40)
        ours = nonnegative_qp(G, G).x
        for k in range(tasks):
            theirs = quadprog.solve_qp(
                G.numpy(),
                -G[k].numpy(),
                torch.eye(tasks, dtype=G.dtype).numpy(),
                torch.zeros(tasks, dtype=G.dtype).numpy(),
            )[0]
            torch.testing.assert_close(ours[k], torch.tensor(theirs), rtol=1e-5, atol=1e-6)


def test_two_conflicting_tasks_in_closed_form() -> None:
    G = torch.tensor([[18.0, -22.0], [-22.0, 38.0]], dtype=torch.float64)
    expected = torch.tensor([[0.0, 22 / 38], [22 / 18, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(nonnegative_qp(G, G).x, expected)


def test_without_conflict_nothing_is_added() -> None:
    G = gramian(0, 5).abs()
    assert torch.count_nonzero(nonnegative_qp(G, G).x) == 0


@pytest.mark.parametrize("tasks", [3, 12])
def test_a_mean_that_cancels_is_projected_to_zero(tasks: int) -> None:
    J = jacobian(1, tasks, "sum zero", size=tasks // 2)
    G = J @ J.mT
    mean = G.mean(0, keepdim=True)
    solution = nonnegative_qp(G, mean, G.abs().mean(0, keepdim=True))
    assert solution.residual <= 1e-9
    direction = (solution.x[0] + 1 / tasks) @ J
    assert direction.norm() <= 1e-9 * J.norm()


@many
@given(J=jacobians(largest=9))
def test_the_dual_cone_of_the_gradients_is_the_problem_of_their_rows(J: Tensor) -> None:
    G = J @ J.mT
    solution, rows = dual_cone(G), nonnegative_qp(G, G)
    assert bool((solution.residual <= 1e-9).all())
    assert solution.x.min() >= 0
    difference = (solution.x - rows.x) @ J
    assert bool((difference.norm(dim=1) <= 1e-6 * J.norm(dim=1) + 1e-300).all())
    batch = dual_cone(torch.stack([G, 4 * G])).x
    assert bool((((batch - solution.x) @ J).norm(dim=-1) <= 1e-6 * J.norm(dim=1) + 1e-300).all())


@many
@given(J=jacobians())
def test_the_careful_way_agrees_with_block_pivoting(J: Tensor) -> None:
    unit = J / J.norm(dim=1, keepdim=True).clamp_min(1e-300)
    rows = (unit @ unit.mT).tolist()
    for k in range(len(J)):
        quick, careful = active_set(rows, rows[k]), _one_at_a_time(rows, rows[k])
        sizes = [abs(q) for q in rows[k]]
        assert violation(rows, rows[k], quick, sizes) < 1e-9
        assert violation(rows, rows[k], careful, sizes) < 1e-9
        difference = torch.tensor(quick, dtype=J.dtype) - torch.tensor(careful, dtype=J.dtype)
        assert (difference @ unit).norm() < 1e-6


@pytest.mark.parametrize("tasks", [2, 12])
def test_an_unbounded_problem_is_an_error(tasks: int) -> None:
    G = gramian(0, tasks)
    G[0] = 0
    G[:, 0] = 0
    linear = torch.ones(1, tasks, dtype=G.dtype)
    linear[0, 0] = -1.0  # goes down for ever along a gradient that is zero
    with pytest.raises(SolverError):
        nonnegative_qp(G, linear).accept(G, "unbounded")
