"""Linear programmes over the probability simplex."""

from __future__ import annotations

from math import inf, isfinite

import torch
from torch import Tensor

from equipoise.solvers.base import Solution
from equipoise.solvers.scaling import Rows

TINY = 1e-12
"""Entries of rows scaled to one below which a sign means nothing."""


def simplex_lp(objective: Tensor, matrix: Tensor, bounds: Tensor) -> Solution:
    r"""Maximises :math:`c^\top x` over the probability simplex, under :math:`A x \ge b`.

    The dual simplex method: the vertex of the best coordinate is dual feasible, so no first phase is
    needed; the most violated row leaves, and after a while the first one (Bland), which cannot cycle.
    The final basis is solved afresh, so that rounding does not add up over the pivots. Rows count
    relative to their largest entry.

    Where several vertices are optimal, one is returned.

    Args:
        objective: c, ``Tensor[..., K]``.
        matrix: A, ``Tensor[..., M, K]``.
        bounds: b, ``Tensor[..., M]``; minus infinity drops a row.

    Returns:
        x of shape ``[..., K]`` and residual ``[...]``: the largest violation of the primal and dual
        constraints, relative to the terms of each; infinite where the rows cannot all hold.

    References:
        Lemke, *The dual method of solving the linear programming problem*, Naval Research Logistics
        1954; Bland, *New finite pivoting rules for the simplex method*, Mathematics of Operations
        Research 1977.
    """
    shape = objective.shape
    values = objective.double().reshape(-1, shape[-1])
    # On the simplex, b is b times the sum of x: rows become homogeneous.
    rows = matrix.double() - bounds.double().unsqueeze(-1)
    rows = rows.reshape(len(values), *matrix.shape[-2:])
    sizes = rows.abs().amax(-1, keepdim=True)
    rows = rows / sizes.masked_fill(sizes == 0, 1.0)
    unit = values.abs().amax(-1, keepdim=True)
    values = values / unit.masked_fill(unit == 0, 1.0)
    found = [_one(c, a[~s.flatten().isinf()]) for c, a, s in zip(values, rows, sizes, strict=True)]
    x = torch.stack([answer for answer, _ in found]).view(shape)
    residual = rows.new_tensor([violated for _, violated in found]).view(shape[:-1])
    return Solution(x.to(objective.dtype), residual.to(objective.dtype))


def _one(c: Tensor, rows: Tensor) -> tuple[Tensor, float]:
    costs = c.tolist()
    basis = _pivot(costs, rows.tolist(), costs.index(max(costs)))
    if basis is None:
        return torch.zeros_like(c), inf
    used, tight = basis
    part = rows[tight][:, used]
    system = torch.cat([part, part.new_ones(1, len(used))])
    right = part.new_zeros(len(used))
    right[-1] = 1.0
    some, singular = torch.linalg.solve_ex(system, right)
    prices, also = torch.linalg.solve_ex(system.mT, c[used])
    if singular.tolist() or also.tolist():
        return torch.zeros_like(c), inf
    x = torch.zeros_like(c)
    x[used] = some
    negative = (-x).clamp_min(0.0)
    x = x.clamp_min(0.0)
    x = x / x.sum()
    slack, terms = rows @ x, rows.abs() @ x
    short = (-slack / terms.masked_fill(terms == 0, 1.0)).clamp_min(0.0)
    y, level = prices[:-1], prices[-1]
    held = rows[tight]
    cost = c - y @ held - level
    weight = c.abs() + y.abs() @ held.abs() + level.abs()
    over = (cost / weight.masked_fill(weight == 0, 1.0)).clamp_min(0.0)
    pay = (y / y.abs().max().clamp_min(1.0)).clamp_min(0.0) if len(tight) else y
    violated = torch.cat([negative, short, over, pay]).tolist()
    return (x, max(violated)) if all(map(isfinite, violated)) else (torch.zeros_like(c), inf)


def _pivot(c: list[float], rows: Rows, start: int) -> tuple[list[int], list[int]] | None:
    """The coordinates in use and the tight rows at the optimum; None where there is none.

    The dictionary holds x[start] and the slacks of the rows in terms of the other coordinates; a
    variable below K is a coordinate, K + i the slack of row i.
    """
    count = len(c)
    free = [j for j in range(count) if j != start]
    held = [start, *range(count, count + len(rows))]
    table = [[1.0, *(-1.0 for _ in free)]]
    table += [[row[start], *(row[j] - row[start] for j in free)] for row in rows]
    costs = [c[j] - c[start] for j in free]
    limit = 20 * (count + len(rows))
    for step in range(limit):
        wrong = [i for i, row in enumerate(table) if row[0] < -TINY]
        if not wrong:
            break
        if step < limit // 2:
            leaves = min(wrong, key=lambda i: (table[i][0], held[i]))
        else:
            leaves = min(wrong, key=lambda i: held[i])
        row = table[leaves]
        enters, least = -1, inf
        for j, cost in enumerate(costs):
            if row[j + 1] > TINY:
                ratio = -cost / row[j + 1]
                if ratio < least or (ratio == least and free[j] < free[enters]):
                    enters, least = j, ratio
        if enters < 0:
            return None
        pivot = row[enters + 1]
        new = [-value / pivot for value in row]
        new[enters + 1] = 1 / pivot
        for i, other in enumerate(table):
            factor = other[enters + 1]
            if i != leaves and factor:
                table[i] = [v + factor * w for v, w in zip(other, new, strict=True)]
                table[i][enters + 1] = factor / pivot
        table[leaves] = new
        price = costs[enters]
        costs = [min(v + price * w, 0.0) for v, w in zip(costs, new[1:], strict=True)]
        costs[enters] = price / pivot
        held[leaves], free[enters] = free[enters], held[leaves]
    else:
        return None
    return [j for j in sorted(held) if j < count], [j - count for j in sorted(free) if j >= count]
