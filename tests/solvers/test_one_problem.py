"""One problem, in plain floats or few calls of torch, against the same problem in a batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from gramians import DEFECTS, gramian, jacobian
from torch import Tensor

from equipoise.solvers import (
    Solution,
    bargaining,
    cagrad_dual,
    dual_cone,
    equal_projections,
    min_norm,
    nonnegative_qp,
)
from equipoise.solvers.one_problem import Symmetric

REGULAR = ("none", "conflict", "eight decades", "nearly parallel")

SOLVERS: dict[str, Callable[[Tensor], Solution]] = {
    "min_norm": min_norm,
    "cagrad_dual": lambda G: cagrad_dual(G, 0.4),
    "nonnegative_qp": lambda G: nonnegative_qp(
        G, G.mean(-2, keepdim=True), G.abs().mean(-2, keepdim=True)
    ),
    "dual_cone": dual_cone,
    "bargaining": bargaining,
    "fairgrad": lambda G: bargaining(G, 0.5),
    "equal_projections": equal_projections,
}


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
@pytest.mark.parametrize("tasks", [5, 11, 14, 20, 33])
def test_one_problem_equals_itself_in_a_batch(
    solver: Callable[[Tensor], Solution], tasks: int
) -> None:
    grams = [gramian(s, tasks, REGULAR[s % 4], size=2 * tasks + 9) for s in range(8)]
    together = solver(torch.stack(grams))
    for G, x in zip(grams, together.x, strict=True):
        alone = solver(G)
        assert alone.residual.max() <= 1e-11
        assert alone.x.shape == x.shape
        difference = (alone.x - x).reshape(-1, tasks)
        # In units of the answer's own combination: single weights of near parallel rows are uncertain.
        size = (x.abs().reshape(-1, tasks) * G.diagonal().sqrt()).sum(-1) ** 2
        assert bool(((difference @ G * difference).sum(-1) <= 1e-14 * size).all())


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_answer_has_the_type_of_the_gramian(
    solver: Callable[[Tensor], Solution], dtype: torch.dtype
) -> None:
    for tasks in (3, 20):
        solution = solver(gramian(0, tasks, size=50).to(dtype))
        assert solution.x.dtype == solution.residual.dtype == dtype


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_among_many_tasks_leave_no_residual(defect: str) -> None:
    J = jacobian(3, 20, defect, size=12)
    G = J @ J.mT
    for name in ("min_norm", "nonnegative_qp", "dual_cone"):
        assert SOLVERS[name](G).residual.max() <= 1e-9
    assert cagrad_dual(G, 0.4).residual <= 1e-8


def test_many_projections_are_those_of_each_gradient() -> None:
    # So many that the ones which are solved early are put aside.
    J = jacobian(1, 40, "conflict", size=100)
    G = J @ J.mT
    together = dual_cone(G)
    assert together.residual.max() <= 1e-12
    for k in (0, 13, 39):
        alone = nonnegative_qp(G, G[k : k + 1]).x[0]
        assert ((together.x[k] - alone) @ J).norm() <= 1e-10 * J[k].norm()


@pytest.mark.parametrize("count", [4, 12, 13, 20])
def test_a_principal_part_is_solved_and_a_dependent_one_refused(count: int) -> None:
    J = jacobian(2, 24, size=40)
    G = J @ J.mT
    used = list(range(1, count + 1))
    right = torch.linspace(-1.0, 2.0, count, dtype=G.dtype)
    solved = Symmetric(G).solve(used, right.tolist(), [1.0] * count)
    assert solved is not None
    part = G[used][:, used]
    torch.testing.assert_close(part @ torch.tensor(solved[0], dtype=G.dtype), right)
    torch.testing.assert_close(
        part @ torch.tensor(solved[1], dtype=G.dtype), torch.ones_like(right)
    )
    product = Symmetric(G).times(used, solved[0], [1.0] * 24)
    expected = G[:, used] @ torch.tensor(solved[0], dtype=G.dtype) + 1
    torch.testing.assert_close(torch.tensor(product, dtype=G.dtype), expected)
    twice = J.clone()
    twice[2] = twice[1]
    assert Symmetric(twice @ twice.mT).solve(used, right.tolist(), rank=1e-6) is None
