"""GradDrop: at each entry, only gradients of one sign pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm

from equipoise.methods.base import Card, JacobianMethod
from equipoise.methods.drawing import Random
from equipoise.methods.options import PerTask


class GradDrop(Random, JacobianMethod):
    r"""Gradient sign dropout.

    .. math:: P = \frac12 \Big(1 + \frac{\sum_k g_k}{\sum_k |g_k|}\Big), \quad U \sim \mathcal U(0, 1)

    .. math:: d = \sum_k \big(\ell_k + (1 - \ell_k) M_k\big) g_k, \quad
              M_k = [P > U][g_k > 0] + [P < U][g_k < 0]

    entry by entry. At shared features the sign is that of the gradient times the activation, summed over
    the batch, as in the paper; an entry is then one feature, for the whole batch.

    Args:
        leak: :math:`\ell`, the part of a gradient that always passes, one number or one a task, in
            [0, 1].
        keep_norm: rescales d to the norm of :math:`\sum_k g_k`. Not in the paper. The authors' code has the
            like on by default (``keep_gradnorm_constant``), but multiplies by the inverse ratio of the
            norms, so that it shortens d instead; hence off here.
        seed: where the draws start; None takes torch's seed.

    Raises:
        ValueError: a leak outside [0, 1].

    References:
        Chen et al., *Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout*,
        NeurIPS 2020, arXiv:2010.06808.
    """

    card = Card(
        id="graddrop",
        name="GradDrop",
        equation=r"d = \sum_k (\ell_k + (1 - \ell_k) M_k) \odot g_k",
        heads="unweighted",
        defaults="leak = 0, as in the paper.",
        deviations=(
            "The paper works at the shared features (route 'features'). LibMTL adds 1e-7 to the "
            "denominator."
        ),
        libmtl="GradDrop",
        torchjd="GradDrop",
    )

    def __init__(
        self,
        leak: float | Sequence[float] = 0.0,
        keep_norm: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.keep_norm = keep_norm
        self.leak = PerTask("leak", leak)
        if not bool(((self.leak.exact >= 0) & (self.leak.exact <= 1)).all()):
            raise ValueError(f"option 'leak' must lie in [0, 1]; got {leak}")
        self._leaks = bool((self.leak.exact > 0).any())

    def draw(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Uniform draws of ``shape``, made on ``device``; their seed comes from our generator."""
        seed: Any = torch.randint(2**63 - 1, (), generator=self.generator).tolist()
        there = torch.Generator(device).manual_seed(seed)
        return torch.rand(shape, generator=there, device=device)

    def combine(self, jacobian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`JacobianMethod.combine`."""
        positive, negative = jacobian.clamp_min(0.0).sum(-2), jacobian.clamp_max(0.0).sum(-2)
        up, down = self._passes(positive, negative)
        passed = torch.where(up, positive, torch.where(down, negative, 0.0))
        leak = self.leak.of(self, losses)
        if not self._leaks:
            return self._rescaled(passed, jacobian.sum(-2), -1)
        leak = leak.to(jacobian).expand(losses.shape[-1]).unsqueeze(-1)
        kept = torch.where(_picked(jacobian, up, down), 1.0, leak)
        return self._rescaled((kept * jacobian).sum(-2), jacobian.sum(-2), -1)

    def _rescaled(self, combined: Tensor, plain: Tensor, dim: int | None) -> Tensor:
        if not self.keep_norm:
            return combined
        norm: Tensor = vector_norm(combined, dim=dim, keepdim=True)
        wanted: Tensor = vector_norm(plain, dim=dim, keepdim=True)
        return combined * (wanted / norm.masked_fill(norm == 0, 1.0))

    def combine_features(
        self, gradients: list[Tensor], features: list[Tensor], losses: Tensor
    ) -> list[Tensor]:
        """See :meth:`JacobianMethod.combine_features`."""
        leak = self.leak.of(self, losses).expand(losses.shape[-1]).unsqueeze(-1)
        combined = []
        for gradient, feature in zip(gradients, features, strict=True):
            signed = (gradient * feature.sign()).sum(1).flatten(1)
            up, down = self._passes(signed.clamp_min(0.0).sum(0), signed.clamp_max(0.0).sum(0))
            kept = torch.where(_picked(signed, up, down), 1.0, leak.to(signed))
            kept = kept.view(len(kept), 1, *feature.shape[1:])
            combined.append(self._rescaled((kept * gradient).sum(0), gradient.sum(0), None))
        return combined

    def _passes(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Where positive entries pass, and where negative ones do."""
        # (1 + sum g / sum |g|) / 2, written without the cancellation of its two halves. Where every
        # gradient is 0 this is nan, and nothing passes.
        purity = positive / (positive - negative)
        draw = self.draw(purity.shape, purity.device).to(purity.dtype)
        return purity > draw, purity < draw


def _picked(rows: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return ((rows > 0) & up.unsqueeze(-2)) | ((rows < 0) & down.unsqueeze(-2))
