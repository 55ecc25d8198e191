"""Equal cosines, equal projections, the spectrum of a Gramian and the simplex."""

from __future__ import annotations

import pytest
import torch
from gramians import gramian, jacobian, jacobians, many, seeds, stack
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from equipoise.solvers import equal_cosines, equal_projections, project_simplex, spectrum


@many
@given(seed=seeds, tasks=st.integers(1, 6))
def test_independent_unit_gradients_get_inner_product_one(seed: int, tasks: int) -> None:
    J = jacobian(seed, tasks, "eight decades")
    unit = J / J.norm(dim=1, keepdim=True)
    solution = equal_cosines(J @ J.mT)
    assert solution.residual < 1e-12
    torch.testing.assert_close(unit @ (solution.x @ unit), torch.ones(tasks).double())


@many
@given(J=jacobians())
def test_dependent_gradients_get_the_pseudo_inverse(J: Tensor) -> None:
    norms = J.norm(dim=1, keepdim=True)
    unit = torch.where(norms > 0, J / norms.clamp_min(1e-300), 0.0)
    want = torch.linalg.pinv(unit, rtol=1e-9) @ torch.ones(len(J)).double()
    got = equal_cosines(J @ J.mT).x @ unit
    assert (got - want).norm() <= 1e-5 * (1 + want.norm())


@pytest.mark.parametrize("defect", ["duplicate", "few parameters", "rank 1", "scaled opposite"])
def test_equal_projections_of_dependent_gradients_are_the_pseudo_inverse(defect: str) -> None:
    J = jacobian(4, 4, defect)
    want = torch.linalg.pinv(J @ J.mT, rtol=1e-12) @ J.norm(dim=1)
    torch.testing.assert_close(equal_projections(J @ J.mT).x, want, rtol=1e-7, atol=1e-12)


def test_equal_projections_of_independent_gradients_solve_the_system() -> None:
    G = gramian(0, 5)
    w = equal_projections(G).x
    torch.testing.assert_close(G @ w, G.diagonal().sqrt())


@pytest.mark.parametrize("tasks", [1, 3, 6])
def test_batches_equal_their_members(tasks: int) -> None:
    G = stack(tasks, 24)
    for solver in (equal_cosines, equal_projections):
        together = solver(G.view(2, 12, tasks, tasks)).x.view(24, tasks)
        for g, x in zip(G, together, strict=True):
            torch.testing.assert_close(solver(g).x, x, rtol=1e-6, atol=1e-9)


@many
@given(J=jacobians())
def test_the_spectrum_rebuilds_the_gramian(J: Tensor) -> None:
    G = J @ J.mT
    values, vectors = spectrum(G)
    assert bool((values.diff() >= -1e-9 * values[-1].abs()).all())
    identity = torch.eye(len(J), dtype=J.dtype)
    torch.testing.assert_close(vectors.mT @ vectors, identity, rtol=0, atol=1e-10)
    # Entry by entry, relative to the norms of the two gradients: small rows keep their digits.
    rebuilt = (vectors * values) @ vectors.mT
    size = float(G.diagonal().max()) * 1e-12
    assert bool(((rebuilt - G).abs() <= size).all())


def test_small_eigenvalues_keep_their_digits() -> None:
    unit = jacobian(0, 4)
    unit = unit / unit.norm(dim=1, keepdim=True)
    J = unit * torch.tensor([1e-5, 1e-2, 1.0, 1e3], dtype=unit.dtype).unsqueeze(1)
    exact = torch.linalg.svdvals(J).square().flip(0)
    values, _ = spectrum(J @ J.mT)
    torch.testing.assert_close(values, exact, rtol=1e-7, atol=0)


points = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12)


@many
@given(point=points)
def test_the_projection_lies_on_the_simplex_and_is_nearest(point: list[float]) -> None:
    p = torch.tensor(point, dtype=torch.float64)
    x, residual = project_simplex(p)
    assert residual < 1e-9
    assert x.min() >= 0
    assert abs(x.sum() - 1) < 1e-9
    # Optimal: the entries in use were moved by one amount, the others by less.
    moved = p - x
    level = moved[x > 0]
    assert level.max() - level.min() <= 1e-9 * (1 + p.abs().max())
    assert bool((moved[x == 0] <= level.mean() + 1e-9 * (1 + p.abs().max())).all())


@many
@given(point=points, shift=st.floats(-1e3, 1e3))
def test_a_shift_does_not_move_the_projection(point: list[float], shift: float) -> None:
    p = torch.tensor(point, dtype=torch.float64)
    torch.testing.assert_close(
        project_simplex(p + shift).x, project_simplex(p).x, rtol=0, atol=1e-11
    )


def test_a_point_of_the_simplex_stays() -> None:
    p = torch.tensor([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(project_simplex(p).x, p)
