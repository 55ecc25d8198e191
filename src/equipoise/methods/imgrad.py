"""IMGrad: CAGrad that looks more at the worst task, the more a few tasks dominate."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import not_negative
from equipoise.solvers import cagrad_dual, min_norm
from equipoise.solvers.cagrad_dual import ORIGIN

SHIFT = 1.5
"""The official code's constant: the weight of the worst task is this less the cosine."""


class IMGrad(GramianMethod):
    r"""Imbalance-sensitive gradient descent.

    .. math:: d = g_0 + c \|g_0\| \frac{J^\top v}{\|J^\top v\|}, \qquad
              v = \operatorname{argmin}_{v \in \Delta}\ (1.5 - \mu) \langle J^\top v, g_0 \rangle
                  + \mu \, c \|g_0\| \|J^\top v\|, \qquad \mu = \cos(g_0, g_m)

    with :math:`g_0` the mean of the gradients and :math:`g_m` the shortest vector of their hull
    (MGDA). Balanced tasks have :math:`\mu` near 1; the more one dominates, the smaller it is, and the
    more v is the one task that the mean helps least. With :math:`\mu = 0.75` this is CAGrad.

    Where the hull holds the origin, :math:`\mu` counts as 0; tasks that the mean helps equally little
    then share v. Where :math:`J^\top v` or :math:`g_0` is 0, d is :math:`g_0`.

    Args:
        c: radius of the ball around the mean, relative to it; not negative.
        rescale: 0 leaves d as it is, 1 divides it by ``1 + c**2``, 2 by ``1 + c``.

    Raises:
        ValueError: ``c`` is negative, or ``rescale`` none of 0, 1, 2.

    References:
        Zhou et al., *Injecting Imbalance Sensitivity for Multi-Task Learning*, IJCAI 2025,
        arXiv:2503.08006.
    """

    card = Card(
        id="imgrad",
        name="IMGrad",
        heads="unweighted",
        degree=0.0,
        defaults="c = 0.8, the official value for NYUv2 and CityScapes; rescale 0.",
        deviations=(
            "The formula is that of the official code for NYUv2, which divides by 1 + c^2 and finds g_m and "
            "v to a tolerance; its code for two tasks has 1.5 - mu on one of two terms only. Here both are "
            "exact, for any number of tasks."
        ),
    )

    def __init__(self, c: float = 0.8, rescale: Literal[0, 1, 2] = 0) -> None:
        super().__init__()
        self.c = not_negative("c", c)
        if rescale not in (0, 1, 2):
            raise ValueError(
                f"option 'rescale' is 0 (none), 1 (over 1 + c^2) or 2 (over 1 + c); got {rescale}"
            )
        self.rescale = rescale

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        exact = gramian.double()
        mean = exact.mean(-1)
        square, terms = mean.mean(-1), exact.abs().mean((-2, -1))
        square = square.masked_fill(square <= ORIGIN * terms, 0.0)
        mu = _cosine(exact, mean, square, min_norm(exact).accept(gramian, "imgrad"))
        # The objective over 1.5 - mu is CAGrad's, for a ball of another radius.
        found = cagrad_dual(exact, self.c * mu / (SHIFT - mu)).accept(gramian, "imgrad")
        noise = 1e-12 * exact.abs().amax(-1).mean(-1, keepdim=True)
        least = (mean <= mean.amin(-1, keepdim=True) + noise).to(exact)
        v = torch.where((mu > 0).unsqueeze(-1), found, least)
        length, terms = _square(exact, v)
        moves = length > ORIGIN * terms
        factor = (square / length.masked_fill(~moves, 1.0)).sqrt().masked_fill(~moves, 0.0)
        scale = (1.0, 1 + self.c**2, 1 + self.c)[self.rescale]
        weights = (1 / exact.shape[-1] + self.c * factor.unsqueeze(-1) * v) / scale
        return weights.to(gramian)


def _cosine(gramian: Tensor, mean: Tensor, square: Tensor, shortest: Tensor) -> Tensor:
    """Cosine of the mean and the shortest vector of the hull, ``Tensor[...]``; 0 where one is 0."""
    length, terms = _square(gramian, shortest)
    both = length * square
    there = (length > ORIGIN * terms) & (both > 0)
    cosine = (shortest * mean).sum(-1) / both.masked_fill(~there, 1.0).sqrt()
    return cosine.clamp(0.0, 1.0).masked_fill(~there, 0.0)


def _square(gramian: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Squared length of a combination, and the terms that cancel in it, ``Tensor[...]`` each."""
    length = (gramian @ weights.unsqueeze(-1)).squeeze(-1)
    terms = (gramian.abs() @ weights.unsqueeze(-1)).squeeze(-1)
    return (length * weights).sum(-1), (terms * weights).sum(-1)
