"""Aligned-MTL: task gradients made orthogonal and of one length before they are summed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import PerTask
from equipoise.solvers import spectrum

Scale = Literal["min", "median", "rmse"]


class AlignedMTL(GramianMethod):
    r"""Independent component alignment.

    .. math:: w = \sigma V \Lambda^{-1/2} V^\top p, \qquad G = V \Lambda V^\top

    over the eigenvalues above rounding (:math:`K \varepsilon \lambda_{\max}`), with
    :math:`\sigma^2` their smallest (``"min"``), lower median or mean (``"rmse"``). The update is the
    sum of gradients that were moved as little as possible to be orthogonal, all of length
    :math:`\sigma`: the condition number of their matrix is 1. Where all gradients are 0, so are the
    weights.

    Args:
        scale_mode: which eigenvalue gives the common length.
        preference: p, one number or one a task.

    Raises:
        ValueError: no such mode.

    References:
        Senushkin et al., *Independent Component Alignment for Multi-Task Learning*, CVPR 2023,
        arXiv:2305.19000.
    """

    card = Card(
        id="aligned_mtl",
        name="Aligned-MTL",
        heads="unweighted",
        degree=0.0,
        guarantee="condition number 1 of the aligned gradients",
        defaults="scale_mode = 'min' and equal preference 1, as in the official code.",
        deviations="LibMTL calls a function that torch 2 has dropped; TorchJD prefers 1/K.",
        libmtl="Aligned_MTL",
        torchjd="AlignedMTL",
    )

    def __init__(
        self, scale_mode: Scale = "min", preference: float | Sequence[float] = 1.0
    ) -> None:
        super().__init__()
        if scale_mode not in get_args(Scale):
            raise ValueError(
                f"option 'scale_mode' is one of {', '.join(get_args(Scale))}; got '{scale_mode}'"
            )
        self.scale_mode: Scale = scale_mode
        self.preference = PerTask("preference", preference)

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        tasks = gramian.shape[-1]
        values, vectors = spectrum(gramian)
        threshold = tasks * torch.finfo(gramian.dtype).eps * values[..., -1:]
        kept = (values > threshold) & (values > 0)
        rank = kept.sum(-1, keepdim=True)
        if self.scale_mode == "rmse":
            square = values.masked_fill(~kept, 0.0).sum(-1, keepdim=True) / rank.clamp_min(1)
        else:
            # Ascending: those kept are the last ones.
            at = tasks - rank + (0 if self.scale_mode == "min" else (rank - 1).clamp_min(0) // 2)
            square = values.gather(-1, at.clamp_max(tasks - 1))
        factors = (square / values.masked_fill(~kept, 1.0)).clamp_min(0.0).sqrt()
        p = self.preference.of(self, losses).to(gramian).expand(gramian.shape[:-1]).unsqueeze(-1)
        inner = (vectors.mT @ p) * factors.masked_fill(~kept, 0.0).unsqueeze(-1)
        weights: Tensor = (vectors @ inner).squeeze(-1)
        return weights
