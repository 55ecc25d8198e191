"""The mean losses of one early epoch, which later steps take as their unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import LossMethod
from equipoise.methods.options import not_negative, off_zero, positive


class EarlyEpoch(LossMethod):
    """A loss method that averages the losses of epoch number ``epoch`` and uses them afterwards.

    The number of the epoch is part of the state, so that a resumed run goes on where it stopped. A
    task that was absent in that epoch, or 0 throughout, takes the first loss above 0 it shows later.

    Args:
        epoch: the epoch that is averaged, counted from 0.
        period: steps in an epoch; None leaves it to :meth:`end_epoch`.

    Raises:
        ValueError: an option is out of its range.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "total": (-1,),
        "count": (-1,),
        "epoch": (),
        "step": (),
    }
    total: Tensor
    count: Tensor
    epoch: Tensor
    step: Tensor

    def __init__(self, epoch: int, period: int | None) -> None:
        super().__init__()
        self.early = int(not_negative("epoch", epoch))
        self.period = None if period is None else int(positive("period", period))
        self.awaits = "end_epoch()" if period is None else ""

    def early_mean(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """The mean losses ``Tensor[..., K]`` of the early epoch, and whether it is over, ``Tensor[]``.

        Counts the step: call it once a step. Epoch and step are tensors that are never read here, so that
        nothing waits for their device.
        """
        start = losses.new_zeros(())
        epoch = self.recall("epoch", start).to(losses)
        step = self.recall("step", start).to(losses)
        if self.period is not None:
            ended = step >= self.period
            epoch, step = epoch + ended, step.masked_fill(ended, 0.0)
        self.epoch, self.step = epoch, step + 1
        within, over = epoch == self.early, epoch > self.early
        zero = torch.zeros_like(losses)
        total = torch.where(within, losses, zero) + self.recall("total", zero)
        count = within + self.recall("count", zero)
        unseen = over & (total == 0)
        self.total = torch.where(unseen, losses, total)
        self.count = torch.where(unseen, 1, count)
        return off_zero(self.total / self.count.clamp_min(1)), over

    def end_epoch(self) -> None:
        """See :meth:`Method.end_epoch`."""
        start = torch.zeros(())
        self.epoch = self.recall("epoch", start) + 1
        self.step = torch.zeros_like(self.recall("step", start))
