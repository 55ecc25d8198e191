"""Linear programmes over the simplex: SciPy's optimum, vertices in rows that cannot all hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gramians import DEFECTS, jacobian
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor

from equipoise.solvers import simplex_lp

many = settings(max_examples=150, deadline=None, derandomize=True)


def oracle(c: Tensor, A: Tensor, b: Tensor) -> float | None:
    """The optimum SciPy finds, or None where it finds no feasible point."""
    kept = b.isfinite()
    found = linprog(
        -c.numpy(),
        A_ub=-A[kept].numpy(),
        b_ub=-b[kept].numpy(),
        A_eq=np.ones((1, len(c))),
        b_eq=[1.0],
        method="highs",
    )
    return -float(found.fun) if found.status == 0 else None


def check(c: Tensor, A: Tensor, b: Tensor) -> None:
    solution, best = simplex_lp(c, A, b), oracle(c, A, b)
    if best is None:
        assert solution.residual == torch.inf
        return
    assert solution.residual < 1e-9
    assert solution.x.min() >= 0
    assert solution.x.sum().item() == pytest.approx(1, abs=1e-12)
    kept = b.isfinite()
    assert (A[kept] @ solution.x >= b[kept] - 1e-9 * A[kept].abs().amax(-1)).all()
    assert (c @ solution.x).item() == pytest.approx(best, rel=1e-7, abs=1e-7 * float(c.abs().max()))


@many
@given(
    seed=st.integers(0, 2**32),
    tasks=st.integers(1, 9),
    count=st.integers(0, 9),
    whole=st.booleans(),
)
def test_scipy_finds_no_better_vertex_and_no_other_feasibility(
    seed: int, tasks: int, count: int, whole: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    c, A, b = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in [(tasks,), (count, tasks), (count,)]
    )
    if whole:  # small integers make ties and degenerate vertices
        c, A, b = c.round(), A.round(), b.round()
    b[b < -1.5] = -torch.inf
    check(c, A, b - 0.5)


@pytest.mark.parametrize("defect", [d for d in DEFECTS if d != "eight decades"])
@pytest.mark.parametrize("seed", range(8))
def test_gramians_with_defects(defect: str, seed: int) -> None:
    J = jacobian(seed, 6, defect)
    G = J @ J.mT
    check(G.sum(0), G, G.new_zeros(6))


@pytest.mark.parametrize("seed", range(20))
def test_norms_over_eight_decades_keep_the_residual_small(seed: int) -> None:
    J = jacobian(seed, 5, "eight decades")
    G = J @ J.mT
    assert simplex_lp(G.sum(0), G, G.new_zeros(5)).residual < 1e-9


def test_forty_tasks_in_conflict() -> None:
    for seed in range(3):
        J = jacobian(seed, 40, "conflict", size=60)
        G = J @ J.mT
        check(G[0] - G[1], G, G.new_zeros(40))


def test_a_batch_equals_its_members() -> None:
    J = torch.stack([jacobian(seed, 4) for seed in range(6)])
    G = J @ J.mT
    together = simplex_lp(G.sum(-2).view(2, 3, 4), G.view(2, 3, 4, 4), torch.zeros(2, 3, 4))
    assert together.x.shape == (2, 3, 4)
    assert together.residual.shape == (2, 3)
    for g, x in zip(G, together.x.view(-1, 4), strict=True):
        assert torch.equal(simplex_lp(g.sum(-2), g, torch.zeros(4)).x, x)


def test_the_answer_does_not_depend_on_units() -> None:
    J = jacobian(3, 5, "conflict")
    G = J @ J.mT
    plain = simplex_lp(G[0], G, G.new_zeros(5)).x
    torch.testing.assert_close(simplex_lp(1e-12 * G[0], 1e-12 * G, G.new_zeros(5)).x, plain)
