"""The features route: task gradients of the shared features, combined inside the one backward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from equipoise.gradients import host
from equipoise.gradients.base import Entrywise, Taken, TaskGradients, all_finite, summed
from equipoise.gradients.features import Share, noting_scale
from equipoise.gradients.graph import reached
from equipoise.gradients.passes import LossScale, undisturbed, warn_of_overflow
from equipoise.gradients.ranks import Ranks
from equipoise.gradients.shared import SharedParameters
from equipoise.gradients.step import Step

# Weights of a weighted sum, or the combined gradients, from task gradients.
Balance = Callable[[TaskGradients], "tuple[Tensor | None, list[Tensor] | None]"]


class FeatureGradients(TaskGradients):
    """Task gradients at the features of this rank's part of the batch.

    The features of the ranks are different entries of one long vector, so the Gramian of the whole batch is
    the sum of the ranks' Gramians.

    Args:
        ranks: the processes that train together, if there are several.
        features: the features, detached.
        taken: the gradients, where they have arrived.
    """

    def __init__(
        self, ranks: Ranks | None, features: Sequence[Tensor], taken: Taken | None = None
    ) -> None:
        # The loss of the whole batch is the mean of the ranks' losses, so its gradients are 1 / N of theirs.
        super().__init__(
            None if ranks is None else lambda gramian: ranks.mean(gramian) / ranks.size
        )
        self._ranks = ranks
        self._features = list(features)
        self._taken = taken

    def entries(self, rule: Entrywise) -> list[Tensor]:
        """What a rule makes of the single entries, the ranks' features taken together."""
        ranks = self._ranks
        if ranks is None:
            return rule(self.rows(), self._features)
        joined = [ranks.gathered(part, 1) for part in self.rows()]
        features = [ranks.gathered(part, 0)[0] for part in self._features]
        combined = rule([part / ranks.size for part, _ in joined], features)
        return [part[mine] * ranks.size for part, (_, mine) in zip(combined, joined, strict=True)]


class AtFeatures(FeatureGradients):
    """The task gradients of one step at the features, and how their combination is handed over.

    Args:
        step: the losses.
        share: the shared features.
        shared: looks for what goes past the features.
        ranks: the processes that train together; None where there is one.
        scale: what losses are multiplied with in float16.
    """

    def __init__(
        self,
        step: Step,
        share: Share,
        shared: SharedParameters,
        ranks: Ranks | None,
        scale: LossScale,
    ) -> None:
        super().__init__(ranks, [f.detach() for f in share.features])
        self._step = step
        self._share = share
        self._scale = scale
        here = [x is not None for x in step.losses]
        names = tuple(n for n, h in zip(step.names, here, strict=True) if h)
        self._half = shared.half_beside(share.features, share.node, step.present, names)

    def take(self) -> Taken:
        """One pass of the heads."""
        share, losses = self._share, self._step.present
        views = [view for task in share.views for view in task]
        sinks = reached(losses, stop=share.node).sinks if self._ranks is not None else []
        while True:
            factor = self._scale.value if self._half else 1.0
            starts = [torch.full_like(loss, factor) for loss in losses]
            with undisturbed([], sinks):
                found = torch.autograd.grad(
                    losses, views, starts, retain_graph=True, allow_unused=True
                )
            rows = share.gather(self._step, found)
            if not self._half or all_finite(rows):
                break
            if not self._scale.lower():
                break
        unit = (
            None if factor == 1.0 else self._step.values.new_full((len(self._step.names),), factor)
        )
        return Taken(rows, unit)

    def overflows(self) -> bool:
        """Whether some task gradient left the range of float16; asks for them where that may be."""
        if not self._half or all_finite(self.taken().rows):
            return False
        warn_of_overflow()
        return True

    def overflowed(self) -> Tensor:
        """The plain sum: its gradients leave the range too, and a GradScaler finds them."""
        self._share.arm(self._step)
        return self._step.stacked.sum()

    def deliver(
        self, weights: Tensor | None, direction: list[Tensor] | None, heads: Tensor
    ) -> Tensor:
        """The balanced loss, where the weights are known before its backward pass.

        Args:
            weights: of the losses, ``Tensor[K]``.
            direction: not None for a method that is no weighted sum.
            heads: what each head's gradient is multiplied with, ``Tensor[K]``.
        """
        if weights is heads:
            self._share.arm(self._step)
            return self._step.weighted(heads)
        return self.deliver_later(lambda _: (weights, direction), heads, looks=False)

    def deliver_later(
        self, balance: Balance, heads: Tensor, *, looks: bool = True, plain: bool = False
    ) -> Tensor:
        """The balanced loss whose backward pass finds the weights.

        Args:
            balance: from task gradients to weights, or to the combined gradients.
            heads: what each head's gradient is multiplied with, ``Tensor[K]``.
            looks: whether ``balance`` looks at the task gradients.
            plain: whether ``heads`` is all ones.
        """
        values = self._step.values if looks else None
        weighted = self._step.stacked.sum() if plain else self._step.weighted(heads)
        plain = plain and not self._half
        arrived = _Arrived(
            balance,
            heads.detach(),
            self._ranks,
            self._features,
            values,
            plain=plain,
            half=self._half,
        )
        self._share.arm(self._step, arrived)
        return noting_scale(weighted, self._share.plan)


class _Arrived:
    """Makes one gradient a feature of the task gradients that a backward pass brings.

    Holds nothing of the graph. A second backward pass through the same graph finds the same answer.
    """

    def __init__(
        self,
        balance: Balance,
        heads: Tensor,
        ranks: Ranks | None,
        features: Sequence[Tensor],
        values: Tensor | None,
        *,
        plain: bool,
        half: bool,
    ) -> None:
        self._values = values
        self._half = half
        self._plain = plain
        self._balance = balance
        self._heads = heads
        self._ranks = ranks
        self._features = features
        self._known: tuple[Tensor | None, list[Tensor] | None] | None = None

    def __call__(self, rows: list[list[Tensor]], scale: Tensor | None) -> list[Tensor]:
        with host.unrounded(rows[0][0]):
            return self._combined(rows, scale)

    def _combined(self, rows: list[list[Tensor]], scale: Tensor | None) -> list[Tensor]:
        if self._plain and scale is not None and host.at_hand(scale) and host.number(scale) == 1.0:
            return self._balanced(FeatureGradients(self._ranks, self._features, Taken(rows)), None)
        heads = self._heads.to(torch.float64)
        started = heads.new_ones(()) if scale is None else scale.to(heads)
        taken = Taken(rows, started * heads)
        gradients = FeatureGradients(self._ranks, self._features, taken)
        looked = None if self._known is not None else self._values
        if looked is not None and self._overflowed(gradients, looked, started):
            # A GradScaler finds this, skips the step and lowers its scale; the method has not seen it.
            return summed(rows)
        return self._balanced(gradients, started)

    def _balanced(self, gradients: TaskGradients, started: Tensor | None) -> list[Tensor]:
        if self._known is None:
            self._known = self._balance(gradients)
        weights, direction = self._known
        if direction is None:
            assert weights is not None
            # What arrives carries the factor already.
            return gradients.combine(weights, started)
        if started is None:
            return direction
        return [part * started.to(part) for part in direction]

    def _overflowed(self, gradients: TaskGradients, values: Tensor, started: Tensor) -> bool:
        """Whether the gradients left the range of half precision, or a loss scale was too large for one."""
        squares = gradients.with_losses(values)[0].diagonal().tolist()
        if all(map(math.isfinite, squares)):
            return False
        # Read only here: on a device every read is waited for.
        scaled = host.number(started) != 1.0
        if self._half and not scaled:
            warn_of_overflow()
        return self._half or scaled
