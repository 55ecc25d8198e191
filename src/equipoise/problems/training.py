"""What presets of papers have in common: optimisers, schedules, and lists of methods.

Presets name optimisers and schedules as ``"equipoise.problems.training:halved"``.

The length of a run is that of the study. What papers say in epochs is said here in parts of the run, so that
a short run goes through the same rates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR

# Of a rate that first rises.
WARM_UP = 40_000
# What Lin et al. (arXiv:2111.10603) compare; random weights are in every study.
LIN2022 = [
    "uw",
    "dwa",
    "imtl_l",
    "moml",
    "mgda",
    "gradnorm",
    "pcgrad",
    "graddrop",
    "imtl_g",
    "gradvac",
    "cagrad",
    "rotograd",
]

# What Kirchdorfer et al. (arXiv:2408.07985) compare. Their own grid is not known to us; the rates are those
# of Elich et al. below 0.05, where Adam still trains.
KIRCHDORFER2024 = {
    "methods": ["uw", "dwa", "gls", "imtl_l", "uw_o", "uw_so"],
    "learning_rates": [1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2],
    "weight_decay": 1e-5,
    "seeds": 3,
}


def sgd_08(groups: Any, lr: float, weight_decay: float) -> Optimizer:
    """Gradient descent with a momentum of 0.8 (Xin et al. on images)."""
    return torch.optim.SGD(groups, lr=lr, momentum=0.8, weight_decay=weight_decay)


def by_095_an_epoch(made: Optimizer, steps: int) -> LRScheduler:
    """The rate times 0.95 after every hundredth of the run: every epoch of 100 (Kurin et al.)."""
    return _stepped(made, steps, 0.95, 1)


def by_085_in_thirty(made: Optimizer, steps: int) -> LRScheduler:
    """The rate times 0.85 after every thirty hundredths of the run: every 30 of 100 epochs (Xin et al.)."""
    return _stepped(made, steps, 0.85, 30)


def halved_in_thirty(made: Optimizer, steps: int) -> LRScheduler:
    """Half the rate after every thirty hundredths of the run (Sener and Koltun; Elich et al. on CelebA)."""
    return _stepped(made, steps, 0.5, 30)


def halved(made: Optimizer, steps: int) -> LRScheduler:
    """Half the rate from the middle on: every 100 of 200 epochs (MTAN, LibMTL)."""
    return MultiStepLR(made, [max(steps // 2, 1)], 0.5)


def halved_twice(made: Optimizer, steps: int) -> LRScheduler:
    """Half the rate after each third: every 100 of 300 epochs (Elich et al. on Cityscapes)."""
    third = max(steps // 3, 1)
    return MultiStepLR(made, [third, 2 * third], 0.5)


def polynomial(made: Optimizer, steps: int) -> LRScheduler:
    """Down to zero with the power 0.9 of what is left (DeepLab)."""
    return LambdaLR(made, lambda step: max(1 - step / max(steps, 1), 0.0) ** 0.9)


def inverse_sqrt(made: Optimizer, steps: int) -> LRScheduler:
    r"""A rate that rises evenly for W steps and then falls with the root of the number of steps.

    .. math:: \eta_t = \eta \, \min\left(\frac{t}{W \sqrt{W}}, \frac{1}{\sqrt{t}}\right)

    W is 40,000, or a tenth of all steps where these are fewer than 400,000. The learning rate of a study is
    the factor :math:`\eta`, which is far above the highest rate.

    References:
        Xin et al., *Do Current Multi-Task Optimization Methods in Deep Learning Even Help?*, NeurIPS 2022,
        arXiv:2209.11379; the form is that of Vaswani et al., NeurIPS 2017, arXiv:1706.03762.
    """
    rise = max(min(WARM_UP, steps // 10), 1)

    def factor(done: int) -> float:
        step = done + 1
        return float(min(step * rise**-1.5, step**-0.5))

    return LambdaLR(made, factor)


def _stepped(made: Optimizer, steps: int, factor: float, hundredths: int) -> LRScheduler:
    return LambdaLR(made, lambda step: factor ** (step * 100 // max(steps, 1) // hundredths))
