"""Non-negative quadratic programmes, and with them the projection onto the dual cone."""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor

from equipoise.solvers.active_set import SIGN, active_set, pivoted, violation
from equipoise.solvers.base import Solution
from equipoise.solvers.one_problem import Symmetric, one_qp
from equipoise.solvers.scaling import FEW, Rows, cosine_rows, cosines, vector

ROUNDS = 30
TOGETHER = 8

MUCH = 10_000
"""Entries of all systems above which the problems that are solved already are put aside."""

RIDGE = 2e-15


def nonnegative_qp(gramian: Tensor, linear: Tensor, size: Tensor | None = None) -> Solution:
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
        size: how large the terms were that each entry of ``linear`` is the sum of, ``Tensor[..., R, K]``:
            what is far below it is rounding. None where nothing cancelled.

    Returns:
        x of shape ``[..., R, K]`` and residual ``[..., R]``.

    References:
        Judice and Pires, *A block principal pivoting algorithm for large-scale strictly monotone linear
        complementarity problems*, Computers & Operations Research 1994; Lawson and Hanson, *Solving
        Least Squares Problems*, 1974.
    """
    if gramian.ndim == 2 and linear.ndim == 2 and len(linear) == 1:
        one = Symmetric(gramian)
        right = linear.tolist()[0]
        sizes = list(map(abs, right)) if size is None else size.tolist()[0]
        found = one_qp(one, right, sizes, one.norms())
        if found is not None:
            return Solution(vector(found[0]).to(linear).unsqueeze(0), linear.new_tensor([found[1]]))
    matrix, inverse = cosines(gramian.double())
    scaled = linear.double() * inverse.unsqueeze(-2)
    terms = scaled.abs() if size is None else size.double() * inverse.unsqueeze(-2)
    unit = terms.amax(-1, keepdim=True)
    unit = unit.masked_fill(unit == 0, 1.0)
    batch = scaled.shape[:-2]
    count, tasks = scaled.shape[-2:]
    x, residual = pivot(
        matrix.unsqueeze(-3).expand(*batch, count, tasks, tasks).reshape(-1, tasks, tasks),
        (scaled / unit).reshape(-1, tasks),
        (terms / unit).reshape(-1, tasks),
    )
    downhill = ((inverse.unsqueeze(-2) == 0) & (linear < 0)).any(-1).flatten()
    residual = residual.masked_fill(downhill, torch.inf)
    x = x.view(*batch, count, tasks) * unit * inverse.unsqueeze(-2)
    return Solution(x.to(linear.dtype), residual.view(*batch, count).to(linear.dtype))


def scaled_qp(
    rows: Rows, inverse: list[float], linear: list[float], size: list[float]
) -> tuple[list[float], float]:
    """One problem in plain floats, given cosines and inverse norms; the answer and its residual."""
    if min(linear) >= 0:
        return [0.0] * len(linear), 0.0
    if any(a == 0 and q < 0 for q, a in zip(linear, inverse, strict=True)):
        return [0.0] * len(linear), inf
    unit = max([s * a for s, a in zip(size, inverse, strict=True)]) or 1.0
    scaled = [q * a / unit for q, a in zip(linear, inverse, strict=True)]
    terms = [s * a / unit for s, a in zip(size, inverse, strict=True)]
    x = active_set(rows, scaled)
    residual = violation(rows, scaled, x, terms)
    return [value * unit * a for value, a in zip(x, inverse, strict=True)], residual


def dual_cone(gramian: Tensor) -> Solution:
    r"""What each task gradient needs to be projected to where it harms no task.

    .. math:: \operatorname{proj}(g_k) = \operatorname{argmin}_{J d \ge 0} \|d - g_k\|
              = g_k + J^\top x_k, \qquad
              x_k = \operatorname{argmin}_{x \ge 0} \|g_k + J^\top x\|

    This is :func:`nonnegative_qp` for the rows of the Gramian, at less cost.

    Args:
        gramian: ``Tensor[..., K, K]``, positive semidefinite.

    Returns:
        x of shape ``[..., K, K]``, row k for the gradient of task k, and residual ``[..., K]``.
    """
    if gramian.ndim == 2 and gramian.shape[-1] <= FEW:
        answers, violated = _cone(gramian.tolist())
        return Solution(gramian.new_tensor(answers), gramian.new_tensor(violated))
    matrix, inverse = cosines(gramian.double())
    if matrix.ndim == 2:
        unit, residual = pivot(matrix, matrix, torch.ones_like(matrix))
    else:
        tasks = matrix.shape[-1]
        rows_of = matrix.unsqueeze(-3).expand(*matrix.shape[:-1], tasks, tasks)
        flat = matrix.reshape(-1, tasks)
        unit, residual = pivot(rows_of.reshape(-1, tasks, tasks), flat, torch.ones_like(flat))
    norms = inverse.reciprocal().masked_fill(inverse == 0, 0.0)
    multipliers = unit.view_as(matrix) * inverse.unsqueeze(-2) * norms.unsqueeze(-1)
    residual = residual.view(inverse.shape)
    return Solution(multipliers.to(gramian.dtype), residual.to(gramian.dtype))


def _cone(gramian: Rows) -> tuple[Rows, list[float]]:
    rows, inverse = cosine_rows(gramian)
    answers, violated = [], []
    for row, mine in zip(rows, inverse, strict=True):
        x, slopes = pivoted(rows, row) or (active_set(rows, row), None)
        violated.append(violation(rows, row, x, [1.0] * len(row), slopes))
        norm = mine or 1.0
        answers.append([value * a / norm for value, a in zip(x, inverse, strict=True)])
    return answers, violated


def pivot(matrix: Tensor, linear: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Block principal pivoting on a batch; what it leaves open goes to :func:`active_set`.

    Args:
        matrix: ``Tensor[B, K, K]``, positive semidefinite, with a diagonal of about one; or
            ``Tensor[K, K]``, the same for all problems.
        linear: ``Tensor[B, K]``.
        size: of the terms of ``linear``, ``Tensor[B, K]``, at most one.

    Returns:
        x of shape ``[B, K]`` and the residual ``[B]``.
    """
    used = linear < -SIGN
    if not used.any().tolist():
        return torch.zeros_like(linear), linear.new_zeros(len(linear))
    x = torch.zeros_like(linear)
    # Far below the rounding of a cosine, and enough to keep dependent rows solvable.
    regular = matrix.clone()
    regular.diagonal(dim1=-2, dim2=-1).add_(RIDGE)
    few, q = regular, linear
    # The problems that still change, all of them while this is None.
    still: Tensor | None = None
    noise: Tensor | float = SIGN
    for turn in range(ROUNDS):
        kept = used.to(q.dtype)
        system = few * kept.unsqueeze(-1) * kept.unsqueeze(-2)
        system.diagonal(dim1=-2, dim2=-1).add_(1 - kept)
        lower = torch.linalg.cholesky_ex(system)[0]
        part = -torch.cholesky_solve((q * kept).unsqueeze(-1), lower).squeeze(-1)
        if still is None:
            x = part
        else:
            x[still] = part
        wrong = torch.where(used, part, _times(few, part) + q) < -noise
        changing = wrong.any(-1)
        open_ones = sum(changing.tolist())
        if not open_ones:
            break
        # All wrong signs change sides at once, which nearly always ends in a few rounds; later on the
        # last one alone does, which ends for certain.
        if turn >= TOGETHER:
            later = wrong.flip(-1).cumsum(-1).flip(-1)
            wrong = wrong & (later == 1)
        used = used ^ wrong
        if system.numel() > MUCH and 4 * open_ones < 3 * len(used):
            rest = changing.nonzero().squeeze(-1)
            still = rest if still is None else still[rest]
            used, q, part = used[rest], q[rest], part[rest]
            few = few if few.ndim == 2 else few[rest]
        noise = SIGN * (1 + part.abs().amax(-1, keepdim=True))
    residual = violations(matrix, x, _times(matrix, x) + linear, size)
    x = x.clamp_min(0.0)
    for i, off in enumerate(residual.tolist()):
        if not off <= 10 * SIGN:
            rows = (matrix if matrix.ndim == 2 else matrix[i]).tolist()
            right = linear[i].tolist()
            answer = active_set(rows, right)
            reached = violation(rows, right, answer, size[i].tolist())
            if not reached >= off:
                x[i] = x.new_tensor(answer)
                residual[i] = reached
    return x, residual


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    """Each problem's matrix, or that of all, which is symmetric, times its x."""
    return x @ matrix if matrix.ndim == 2 else (matrix @ x.unsqueeze(-1)).squeeze(-1)


def violations(matrix: Tensor, x: Tensor, slopes: Tensor, size: Tensor) -> Tensor:
    """:func:`violation <equipoise.solvers.active_set.violation>` of a batch, ``Tensor[B]``.

    Args:
        matrix: ``Tensor[B, K, K]`` or ``Tensor[K, K]``.
        x: ``Tensor[B, K]``; an entry below 0 by more than rounding counts as infinite.
        slopes: ``matrix x + linear``, ``Tensor[B, K]``.
        size: of the terms of ``linear``, ``Tensor[B, K]``.
    """
    terms = x.abs().sum(-1, keepdim=True) + size
    off = torch.where(x == 0, -slopes, slopes.abs()) / terms
    off = torch.where(terms == 0, 0.0, off).masked_fill(x < -10 * SIGN * (terms + 1), torch.inf)
    return off.amax(-1).clamp_min(0.0)
