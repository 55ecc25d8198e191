"""Schedules of the learning rate that papers on translation use."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

WARM_UP = 40_000


def inverse_sqrt(optimizer: Optimizer, steps: int) -> LambdaLR:
    r"""A rate that rises evenly for W steps and then falls with the root of the number of steps.

    .. math:: \eta_t = \eta \, \min\left(\frac{t}{W \sqrt{W}}, \frac{1}{\sqrt{t}}\right)

    W is 40,000, or a tenth of all steps where these are fewer than 400,000. The learning rate of a study is
    the factor :math:`\eta`, which is far above the highest rate: name it in a study as
    ``schedule = "equipoise.problems.language.schedules:inverse_sqrt"``.

    Args:
        optimizer: whose rate it sets.
        steps: of the whole training.

    References:
        Xin et al., *Do Current Multi-Task Optimization Methods in Deep Learning Even Help?*, NeurIPS 2022,
        arXiv:2209.11379; the form is that of Vaswani et al., NeurIPS 2017, arXiv:1706.03762.
    """
    rise = max(min(WARM_UP, steps // 10), 1)

    def factor(done: int) -> float:
        step = done + 1
        return float(min(step * rise**-1.5, step**-0.5))

    return LambdaLR(optimizer, factor)
