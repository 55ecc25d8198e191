"""Eigenvalues of a Gramian, the small ones too."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.solvers.scaling import cosines

GRADED = 1e4


def spectrum(gramian: Tensor) -> tuple[Tensor, Tensor]:
    r"""Eigenvalues in ascending order, and eigenvectors.

    Rounding in an eigenvalue is relative to the largest one. Where the squared norms of the gradients
    differ by more than ``GRADED``, the small eigenvalues are taken as squared singular values of
    a root of the Gramian, whose rows keep their scale: :math:`G = N C N` with unit-diagonal C,
    :math:`C = R R^\top`, and :math:`N R = V S U^\top` gives :math:`G = V S^2 V^\top`.

    Args:
        gramian: ``Tensor[..., K, K]``, positive semidefinite.

    Returns:
        ``Tensor[..., K]`` and ``Tensor[..., K, K]`` with eigenvectors as columns.
    """
    exact = gramian.double()
    squares = exact.diagonal(dim1=-2, dim2=-1)
    if not (squares.amax(-1) > GRADED * squares.amin(-1)).any().tolist():
        values, vectors = torch.linalg.eigh(exact)
        return values.to(gramian.dtype), vectors.to(gramian.dtype)
    matrix = cosines(exact)[0]
    inner, vectors = torch.linalg.eigh(matrix)
    root = vectors * inner.clamp_min(0.0).sqrt().unsqueeze(-2)
    norms = squares.clamp_min(0.0).sqrt().unsqueeze(-1)
    left, singular, _ = torch.linalg.svd(norms * root)
    return singular.square().flip(-1).to(gramian.dtype), left.flip(-1).to(gramian.dtype)
