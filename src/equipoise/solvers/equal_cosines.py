"""The combination that has the same inner product with every unit gradient."""

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor

from equipoise.solvers.base import Solution
from equipoise.solvers.one_problem import Symmetric
from equipoise.solvers.scaling import cosines, vector

RANK = 10 * torch.finfo(torch.float64).eps
PLAIN = 1e-6
"""Squared distance of each unit gradient to the span of others that leaves no doubt about the rank."""


def equal_cosines(gramian: Tensor) -> Solution:
    r"""Coefficients of the unit gradients with which all inner products with them are one.

    .. math:: b = C^+ 1, \qquad C_{ij} = \frac{\langle g_i, g_j \rangle}{\|g_i\| \|g_j\|}

    The rank is decided on the cosines, so that the norms of the gradients have no part in it. Where the
    unit gradients are dependent, this is the pseudo-inverse: the least-squares answer of least norm. It
    is 0 where no combination has positive inner products (two opposite gradients), and for a zero
    gradient.

    Args:
        gramian: ``Tensor[..., K, K]``, positive semidefinite.

    Returns:
        b of shape ``[..., K]`` and residual ``[...]``, of ``C b`` against the part of 1 in the range.
    """
    if gramian.ndim == 2:
        quick = _independent(Symmetric(gramian))
        if quick is not None:
            units = [w * n for w, n in zip(quick[0], quick[1], strict=True)]
            return Solution(vector(units).to(gramian), gramian.new_tensor(quick[2]))
    x, residual = _unit(cosines(gramian.double())[0])[0]
    return Solution(x.to(gramian.dtype), residual.to(gramian.dtype))


def equal_projections(gramian: Tensor) -> Solution:
    r"""Weights of the task gradients with which their combination projects equally on all of them.

    .. math:: w = G^+ n, \qquad n_k = \|g_k\|

    For independent gradients this is :func:`equal_cosines` over the norms; for dependent ones it is the
    pseudo-inverse of the Gramian, with the rank of the cosines.

    Args:
        gramian: ``Tensor[..., K, K]``, positive semidefinite.

    Returns:
        w of shape ``[..., K]`` and residual ``[...]``, that of :func:`equal_cosines`.
    """
    if gramian.ndim == 2:
        quick = _independent(Symmetric(gramian))
        if quick is not None:
            return Solution(vector(quick[0]).to(gramian), gramian.new_tensor(quick[2]))
    matrix, inverse = cosines(gramian.double())
    solution, values, vectors, kept = _unit(matrix)
    weights = solution.x * inverse
    for where in (~kept.all(-1)).nonzero().tolist():
        at = tuple(where)
        norms = inverse[at].reciprocal().masked_fill(inverse[at] == 0, 0.0)
        some = kept[at]
        root = norms.unsqueeze(-1) * vectors[at][:, some] * values[at][some].sqrt()
        back = torch.linalg.pinv(root.nan_to_num(0.0, 0.0, 0.0), rtol=1e-30)
        weights[at] = (back.mT @ (back @ norms)).masked_fill(norms == 0, 0.0)
    return Solution(weights.to(gramian.dtype), solution.residual.to(gramian.dtype))


def _independent(matrix: Symmetric) -> tuple[list[float], list[float], float] | None:
    """Weights, norms and a bound on the residual where gradients are far from dependent; else None."""
    norms = matrix.norms()
    everyone = list(range(len(norms)))
    solved = matrix.solve(everyone, norms, rank=PLAIN) if min(norms) > 0 else None
    if solved is None:
        return None
    weights = solved[0]
    worst = 0.0
    gains = matrix.times(everyone, weights, [0.0] * len(norms))
    for gain, w, n in zip(gains, weights, norms, strict=True):
        worst = max(worst, abs(gain - n) / (abs(w) * n * n + n))
    return (weights, norms, worst) if isfinite(sum(gains)) else None


def _unit(matrix: Tensor) -> tuple[Solution, Tensor, Tensor, Tensor]:
    """The answer for cosines, and their eigenvalues, eigenvectors and which of them count."""
    # The residual tells of entries that are not finite, which an eigensolver does not take.
    values, vectors = torch.linalg.eigh(matrix.nan_to_num(0.0, 0.0, 0.0))
    tasks = matrix.shape[-1]
    kept = (values > RANK * tasks * values[..., -1:]) & (values > 0)
    ones = vectors.sum(-2)
    # A sum of K entries of size K ** -0.5 that is rounding of 0 would give a direction out of noise.
    ones = ones.masked_fill(~kept | (ones.abs() < 1e-13 * tasks**0.5), 0.0)
    b = (vectors @ (ones / values.masked_fill(~kept, 1.0)).unsqueeze(-1)).squeeze(-1)
    target = (vectors @ ones.unsqueeze(-1)).squeeze(-1)
    b = b.masked_fill(matrix.diagonal(dim1=-2, dim2=-1) == 0, 0.0)
    off = ((matrix @ b.unsqueeze(-1)).squeeze(-1) - target).abs()
    # Against the 1 of which it is a projection: where the target is 0, it is only rounding itself.
    size = (matrix.abs() @ b.abs().unsqueeze(-1)).squeeze(-1) + 1
    residual = (off / size).amax(-1)
    return Solution(b, residual), values, vectors, kept
