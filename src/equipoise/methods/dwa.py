"""DWA: dynamic weight average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import positive


class DWA(LossMethod):
    r"""Weights the tasks whose losses fell least from one epoch to the next.

    .. math:: w_k = K \operatorname{softmax}_k(r_k / T), \quad r_k = \bar L_k(t-1) / \bar L_k(t-2)

    with :math:`\bar L_k(t)` the mean loss of epoch t. A task without two epochs of history has
    :math:`r_k = 1`, so the first two epochs weight all tasks with 1.

    Args:
        temperature: :math:`T > 0`; large gives equal weights.
        period: closes an epoch of a task after this many of its steps; None leaves it to
            :meth:`end_epoch`.
        window: the sliding form that some codes use instead: means over the last ``window`` steps
            and the ``window`` before, from a buffer that starts at ones, so that steps up to
            ``2 * window`` compare real losses with ones. For comparison with published numbers.

    Raises:
        ValueError: an option is not positive, or both ``period`` and ``window`` are given.

    References:
        Liu et al., *End-to-End Multi-Task Learning with Attention*, CVPR 2019, arXiv:1803.10704.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "total": (-1,),
        "count": (-1,),
        "last": (-1,),
        "ratio": (-1,),
        "history": (-1,),
    }
    total: Tensor
    count: Tensor
    last: Tensor
    ratio: Tensor
    history: Tensor | None

    card = Card(
        id="dwa",
        name="DWA",
        heads="weighted",
        weight_sum="K",
        degree=0.0,
        defaults="Temperature 2 and two epochs of equal weights, as in the paper and its code.",
        deviations="Some codes take the mean of the weighted losses instead of the sum.",
        libmtl="DWA",
        torchjd="DWA",
    )

    def __init__(
        self, temperature: float = 2.0, period: int | None = None, window: int | None = None
    ) -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)
        if period is not None and window is not None:
            raise ValueError("options 'period' and 'window' exclude each other; give one of them")
        self.period = None if period is None else int(positive("period", period))
        self.window = None if window is None else int(positive("window", window))
        self.awaits = "end_epoch()" if period is None and window is None else ""

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        losses = losses.detach()
        ratio = self._sliding(losses) if self.window is not None else self._by_epoch(losses)
        return losses.shape[-1] * (ratio / self.temperature).softmax(-1)

    def end_epoch(self) -> None:
        """See :meth:`Method.end_epoch`."""
        if self.window is None and self.knows("total"):
            self._close(self.count > 0)

    def _by_epoch(self, losses: Tensor) -> Tensor:
        ratio = self.recall("ratio", torch.ones_like(losses))
        self.total = self.recall("total", torch.zeros_like(losses)) + losses
        self.count = self.recall("count", torch.zeros_like(losses)) + 1
        if self.period is not None:
            self._close(self.count >= self.period)
        return ratio

    def _close(self, done: Tensor) -> None:
        """Ends the epoch of the tasks that are ``done``."""
        mean = self.total / self.count
        last = self.recall("last", torch.full_like(mean, torch.nan))
        # Not finite without two epochs of history, or after an epoch of zeros.
        ratio = mean / last
        self.ratio = torch.where(done, ratio.where(ratio.isfinite(), 1), self.ratio)
        self.last = torch.where(done, mean, last)
        self.total = torch.where(done, 0, self.total)
        self.count = torch.where(done, 0, self.count)

    def _sliding(self, losses: Tensor) -> Tensor:
        assert self.window is not None
        both = 2 * self.window
        kept = (
            losses.new_empty(0, *losses.shape)
            if self.history is None or not self.knows("history")
            else self.history
        )
        # A task that was absent so far has NaN here; the buffer starts at ones.
        kept = torch.cat([kept.nan_to_num(nan=1.0), losses.unsqueeze(0)])[-both - 1 :]
        self.history = kept
        if len(kept) < self.window + 2:
            return torch.ones_like(losses)
        filled = torch.cat([losses.new_ones(both, *losses.shape), kept])[-both:]
        return filled[self.window :].mean(0) / filled[: self.window].mean(0)
