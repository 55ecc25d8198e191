"""Random weights: the six distributions of random loss and gradient weighting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from equipoise.methods.drawing import Random

Distribution = Literal[
    "normal", "uniform", "dirichlet", "bernoulli", "constrained_bernoulli", "random_normal"
]


def simplex(raw: Tensor, distribution: Distribution) -> Tensor:
    r"""Normalises a raw draw ``Tensor[..., K]`` to weights that sum to one.

    The softmax for ``normal``, ``uniform`` and ``random_normal``; the others are divided by their
    sum (Dirichlet weights are Gamma(1, 1) draws over their sum).
    """
    if distribution in ("normal", "uniform", "random_normal"):
        return raw.softmax(-1)
    return raw / raw.sum(-1, keepdim=True)


class RandomWeights(Random):
    """What RLW and RGW share: a draw at every step, and its normalisation.

    Args:
        distribution: ``normal`` N(0, 1), ``uniform`` U(0, 1), ``dirichlet`` Dir(1, ..., 1),
            ``bernoulli`` independent fair coins, redrawn when all are zero,
            ``constrained_bernoulli`` one task a step, ``random_normal`` N(mean, std) with a mean
            and a std a task that are drawn once, at the first step, from U(0, 1).
        seed: where the draws start; see :class:`Random`.

    Raises:
        ValueError: no such distribution.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"mean": (-1,), "std": (-1,)}

    def __init__(self, distribution: Distribution = "normal", seed: int | None = None) -> None:
        super().__init__(seed)
        known = get_args(Distribution)
        if distribution not in known:
            raise ValueError(
                f"option 'distribution' is one of {', '.join(known)}; got '{distribution}'"
            )
        self.distribution: Distribution = distribution

    def draw(self, shape: torch.Size) -> Tensor:
        """A raw draw of ``shape``, on the CPU in float64; standard normal for ``random_normal``."""
        generator, dtype = self.generator, torch.float64
        if self.distribution in ("normal", "random_normal"):
            return torch.randn(shape, generator=generator, dtype=dtype)
        if self.distribution == "uniform":
            return torch.rand(shape, generator=generator, dtype=dtype)
        if self.distribution == "dirichlet":
            return torch.empty(shape, dtype=dtype).exponential_(generator=generator)
        if self.distribution == "constrained_bernoulli":
            # Fair coins given that exactly one shows heads: one task, each with the same chance.
            chosen = torch.randint(shape[-1], shape[:-1], generator=generator)
            picked = torch.zeros(shape, dtype=dtype)
            return picked.scatter_(-1, chosen.unsqueeze(-1), 1)
        coins = torch.randint(2, shape, generator=generator, dtype=dtype)
        while bool((empty := coins.sum(-1) == 0).any()):
            again = torch.randint(2, shape, generator=generator, dtype=dtype)
            coins = torch.where(empty.unsqueeze(-1), again, coins)
        return coins

    def draw_weights(self, like: Tensor) -> Tensor:
        """New weights ``Tensor[..., K]`` with the shape, dtype and device of ``like``."""
        raw = self.drawn(like.shape).to(like)
        if self.distribution == "random_normal":
            # Drawn at every step although only a task's first draw is kept: how many numbers the
            # generator gives must not depend on which tasks were seen before.
            mean = self.drawn(like.shape, "uniform").to(like)
            std = self.drawn(like.shape, "uniform").to(like)
            self.mean, self.std = self.recall("mean", mean), self.recall("std", std)
            raw = self.mean + self.std * raw
        return simplex(raw, self.distribution)

    mean: Tensor
    std: Tensor
