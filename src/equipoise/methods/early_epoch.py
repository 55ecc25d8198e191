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

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "epoch": (),
        "step": (),
        "total": (-1,),
        "count": (-1,),
    }
    epoch: Tensor
    step: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, epoch: int, period: int | None) -> None:
        super().__init__()
        self.early = int(not_negative("epoch", epoch))
        self.period = None if period is None else int(positive("period", period))

    def early_mean(self, losses: Tensor) -> Tensor | None:
        """The mean losses ``Tensor[..., K]`` of the early epoch; None until it is over.

        Counts the step: call it once a step.
        """
        epoch = self._advance()
        total = self.recall("total", torch.zeros_like(losses))
        count = self.recall("count", torch.zeros_like(losses))
        # After the early epoch a task never seen before is still missing: its first loss serves.
        wanted = count == 0 if epoch > self.early else torch.full_like(count, epoch == self.early)
        self.total = torch.where(wanted.bool(), total + losses, total)
        self.count = torch.where(wanted.bool(), count + 1, count)
        return self.total / self.count if epoch > self.early else None

    def end_epoch(self) -> None:
        """See :meth:`Method.end_epoch`."""
        self.epoch = self.recall("epoch", torch.zeros((), dtype=torch.int64)) + 1
        self.step = torch.zeros((), dtype=torch.int64)

    def _advance(self) -> int:
        """The number of this step's epoch."""
        step = self.recall("step", torch.zeros((), dtype=torch.int64))
        self.recall("epoch", torch.zeros((), dtype=torch.int64))
        if self.period is not None and int(step) >= self.period:
            self.end_epoch()
            step = self.step
        self.step = step + 1
        return int(self.epoch)
