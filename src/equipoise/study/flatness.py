"""How flat the minimum is that training ended in: losses at random steps away from the parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean

import torch
from torch import nn

from equipoise.problems import Batch, Problem
from equipoise.study.measuring import scores

# Random directions.
DRAWS = 5


@torch.no_grad()
def losses_around(
    problem: Problem,
    model: nn.Module,
    names: Sequence[str],
    data: Iterable[Batch],
    size: float,
    seed: int,
) -> dict[str, float]:
    """The mean loss of each task over steps away from the parameters, in directions that the seed gives.

    Every parameter tensor w moves by a Gaussian direction of length ``size`` times the norm of w, so that
    networks which differ only in the scale of their layers are equally flat.

    Args:
        problem: the problem.
        model: the network; it is left as it was.
        names: of its tasks.
        data: the examples, read once for every direction.
        size: of a step, relative to each parameter.
        seed: of the directions.

    Returns:
        Losses by task; NaN where one was not finite.

    References:
        Li et al., *Visualizing the Loss Landscape of Neural Nets*, NeurIPS 2018, arXiv:1712.09913.
    """
    before = [p.detach().clone() for p in model.parameters()]
    random = torch.Generator().manual_seed(seed)
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(DRAWS):
        for p, start in zip(model.parameters(), before, strict=True):
            step = torch.randn(p.shape, generator=random, dtype=torch.float32).to(p)
            p.copy_(start + step * (size * start.norm() / step.norm().clamp_min(1e-30)))
        for (name, metric), value in scores(problem, model, names, data).items():
            if metric == "loss":
                found[name].append(value)
    for p, start in zip(model.parameters(), before, strict=True):
        p.copy_(start)
    means = {name: fmean(values) for name, values in found.items()}
    return {name: mean if math.isfinite(mean) else math.nan for name, mean in means.items()}
