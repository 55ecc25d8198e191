"""Schedules of the learning rate in papers on dense tasks, as studies name them.

Each is a factory of optimiser and number of steps, named as
``"equipoise.problems.vision.dense_schedules:halved"``.
"""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, MultiStepLR


def halved(optimizer: Optimizer, steps: int) -> MultiStepLR:
    """Half the rate from the middle on: every 100 of 200 epochs (MTAN, LibMTL)."""
    return MultiStepLR(optimizer, [max(steps // 2, 1)], 0.5)


def halved_twice(optimizer: Optimizer, steps: int) -> MultiStepLR:
    """Half the rate after each third: every 100 of 300 epochs (Elich et al. on Cityscapes)."""
    third = max(steps // 3, 1)
    return MultiStepLR(optimizer, [third, 2 * third], 0.5)


def polynomial(optimizer: Optimizer, steps: int) -> LambdaLR:
    """Down to zero with the power 0.9 of what is left (DeepLab)."""
    return LambdaLR(optimizer, lambda step: max(1 - step / max(steps, 1), 0.0) ** 0.9)
