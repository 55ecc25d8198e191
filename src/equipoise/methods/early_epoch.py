"""The mean losses of one early epoch, which later steps take as their unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import LossMethod
from equipoise.methods.options import not_negative, positive


class EarlyEpoch(LossMethod):
    """A loss method that averages the losses of epoch number ``epoch`` and uses them afterwards.

    The number of the epoch is part of the state, so that a resumed run goes on where it stopped. A
    task that was absent in that epoch takes the first loss it shows later.

    Args:
        epoch: the epoch that is averaged, counted from 0.
        period: steps in an epoch; None leaves it to :meth:`end_epoch`.

    Raises:
        ValueError: an option is out of its range.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"total": (-1,), "count": (-1,)}
    numbers = ("epoch", "step")
    total: Tensor
    count: Tensor
    epoch: int
    step: int

    def __init__(self, epoch: int, period: int | None) -> None:
        super().__init__()
        self.early = int(not_negative("epoch", epoch))
        self.period = None if period is None else int(positive("period", period))
        self.awaits = "end_epoch()" if period is None else ""

    def early_mean(self, losses: Tensor) -> Tensor | None:
        """The mean losses ``Tensor[..., K]`` of the early epoch; None until it is over.

        Counts the step: call it once a step.
        """
        if self.period is not None and self.step >= self.period:
            self.end_epoch()
        self.step += 1
        total = self.recall("total", torch.zeros_like(losses))
        count = self.recall("count", torch.zeros_like(losses))
        if self.epoch == self.early:
            self.total, self.count = total + losses, count + 1
        if self.epoch <= self.early:
            return None
        unseen = count == 0
        self.total = torch.where(unseen, losses, total)
        self.count = torch.where(unseen, 1, count)
        return self.total / self.count

    def end_epoch(self) -> None:
        """See :meth:`Method.end_epoch`."""
        self.epoch += 1
        self.step = 0
