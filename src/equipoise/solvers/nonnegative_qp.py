"""Non-negative quadratic programmes, and with them the projection onto the dual cone."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.solvers.active_set import SIGN, active_set, violation
from equipoise.solvers.base import Solution
from equipoise.solvers.scaling import cosine_rows, cosines, single

ROUNDS = 30
RIDGE = 2e-15


def nonnegative_qp(gramian: Tensor, linear: Tensor) -> Solution:
    r"""Minimises :math:`\frac12 x^\top G x + q^\top x` over :math:`x \ge 0`, for R right-hand sides.

    Exact up to rounding: the answer solves a linear system on the rows in use. Block principal pivoting
    works on all problems at once; those it leaves open are finished one by one by an active set that
    copes with dependent rows. Rows are scaled to unit length first, so neither the size of the Gramian
    nor the ratio of its rows matters.

    Where rows are dependent the minimiser is not unique (``J^T x`` is); one with independent rows in use
    is returned. A zero row gets 0.

    Args:
        gramian: ``Tensor[..., K, K]``, positive semidefinite.
        linear: q, ``Tensor[..., R, K]``, each in the range of G (as ``G u`` is), else the minimum
            may be unbounded, and the residual infinite.

    Returns:
        x of shape ``[..., R, K]`` and residual ``[..., R]``.

    References:
        Judice and Pires, *A block principal pivoting algorithm for large-scale strictly monotone linear
        complementarity problems*, Computers & Operations Research 1994; Lawson and Hanson, *Solving
        Least Squares Problems*, 1974.
    """
    if single(gramian) and linear.ndim == 2:
        rows, lengths = cosine_rows(gramian.tolist())
        answers = [scaled_qp(rows, lengths, right) for right in linear.tolist()]
        return Solution(
            linear.new_tensor([x for x, _ in answers]), linear.new_tensor([r for _, r in answers])
        )
    matrix, inverse = cosines(gramian.double())
    scaled = linear.double() * inverse.unsqueeze(-2)
    size = scaled.abs().amax(-1, keepdim=True)
    size = size.masked_fill(size == 0, 1.0)
    batch = scaled.shape[:-2]
    count, tasks = scaled.shape[-2:]
    flat = matrix.unsqueeze(-3).expand(*batch, count, tasks, tasks).reshape(-1, tasks, tasks)
    x, residual = pivot(flat, (scaled / size).reshape(-1, tasks))
    x = x.view(*batch, count, tasks) * size * inverse.unsqueeze(-2)
    return Solution(x.to(linear.dtype), residual.view(*batch, count).to(linear.dtype))


def scaled_qp(
    rows: list[list[float]], inverse: list[float], linear: list[float]
) -> tuple[list[float], float]:
    """One problem in plain floats, given cosines and inverse norms; the answer and its residual."""
    if min(linear) >= 0:
        return [0.0] * len(linear), 0.0
    scaled = [q * a for q, a in zip(linear, inverse, strict=True)]
    size = max(map(abs, scaled)) or 1.0
    scaled = [q / size for q in scaled]
    x = active_set(rows, scaled)
    residual = violation(rows, scaled, x)
    return [value * size * a for value, a in zip(x, inverse, strict=True)], residual


def pivot(matrix: Tensor, linear: Tensor) -> tuple[Tensor, Tensor]:
    """Block principal pivoting on a batch; what it leaves open goes to :func:`active_set`.

    Args:
        matrix: ``Tensor[B, K, K]``, positive semidefinite, with a diagonal of about one.
        linear: ``Tensor[B, K]``, of size about one.

    Returns:
        x of shape ``[B, K]`` and the residual ``[B]``.
    """
    used = linear < 0
    if not bool(used.any()):
        return torch.zeros_like(linear), linear.new_zeros(len(linear))
    unit = torch.eye(linear.shape[-1], dtype=linear.dtype, device=linear.device)
    # Far below the rounding of a cosine, and enough to keep dependent rows solvable.
    regular = matrix + RIDGE * unit
    x = torch.zeros_like(linear)
    best = torch.full_like(linear[:, :1], torch.inf)
    chances = torch.full_like(best, 3.0)
    for _ in range(ROUNDS):
        system = torch.where(used.unsqueeze(-1) & used.unsqueeze(-2), regular, unit)
        x = torch.linalg.solve_ex(system, torch.where(used, -linear, 0.0))[0]
        y = (matrix @ x.unsqueeze(-1)).squeeze(-1) + linear
        size = SIGN * (1 + x.abs().amax(-1, keepdim=True))
        wrong = torch.where(used, x < 0, y < -size)
        count = wrong.sum(-1, keepdim=True)
        if not bool(count.any()):
            break
        # All wrong signs change sides, unless that has brought nothing three times: then the last one
        # alone does, which ends in finitely many rounds.
        better = count < best
        chances = torch.where(better, 3.0, chances - 1)
        best = torch.minimum(best, count.to(best))
        later = wrong.flip(-1).cumsum(-1).flip(-1)
        used = used ^ torch.where(chances < 0, wrong & (later == 1), wrong)
    x = x.clamp_min(0.0)
    residual = violations(matrix, linear, x)
    for i in (~(residual <= 10 * SIGN)).nonzero().flatten().tolist():
        rows, right = matrix[i].tolist(), linear[i].tolist()
        answer = active_set(rows, right)
        reached = violation(rows, right, answer)
        if not reached >= float(residual[i]):
            x[i] = x.new_tensor(answer)
            residual[i] = reached
    return x, residual


def violations(matrix: Tensor, linear: Tensor, x: Tensor) -> Tensor:
    """:func:`violation <equipoise.solvers.active_set.violation>` of a batch, ``Tensor[B]``."""
    y = (matrix @ x.unsqueeze(-1)).squeeze(-1) + linear
    size = (matrix.abs() @ x.abs().unsqueeze(-1)).squeeze(-1) + linear.abs()
    off = torch.where(x > 0, y.abs(), -y) / size
    off = torch.where(size == 0, 0.0, off)
    return off.amax(-1).clamp_min(0.0)
