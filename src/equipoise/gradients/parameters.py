"""The parameters route: exact task gradients of the shared parameters, by one backward pass a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from equipoise.gradients import host
from equipoise.gradients.base import (
    Arrived,
    Rows,
    Taken,
    TaskGradients,
    all_finite,
    cut,
    cut_to,
    entries_of,
    joined,
    summed,
)
from equipoise.gradients.delivery import Delivery
from equipoise.gradients.features import Share
from equipoise.gradients.gathering import Gathering
from equipoise.gradients.passes import Found as Gradients
from equipoise.gradients.passes import (
    LossScale,
    backward,
    undisturbed,
    warn_of_overflow,
)
from equipoise.gradients.ranks import Ranks
from equipoise.gradients.shared import Found, SharedParameters, refuse_disagreement
from equipoise.gradients.step import Step
from equipoise.gradients.ways import Ways, unreached


class Passes(NamedTuple):
    """How the passes of a step are made.

    Attributes:
        ranks: the processes that train together; None where there is one.
        average: whether task gradients are averaged over ranks before anything looks at them.
        keep_graph: whether the graph outlives the last pass.
        factor: what the losses are multiplied with (a GradScaler's scale); None where nothing is asked.
        scale: what they are multiplied with in float16 where nothing is asked.
        low: whether task gradients are dropped as soon as their inner products are known.
    """

    ranks: Ranks | None
    average: bool
    keep_graph: bool
    factor: float | None
    scale: LossScale
    low: bool = False


class AtParameters(TaskGradients):
    """The task gradients of one step at the parameters, and how their combination is handed over.

    Args:
        step: the losses.
        shared: finds the shared parameters.
        share: the shared features, where they were given.
        how: how the passes are made.
        found: the shared parameters, where they are known from another batch.
        of: the sharded parameters of gathered ones.
    """

    def __init__(
        self,
        step: Step,
        shared: SharedParameters,
        share: Share | None,
        how: Passes,
        found: Found | None = None,
        of: Mapping[Tensor, Tensor] | None = None,
    ) -> None:
        ranks = how.ranks
        super().__init__(ranks.mean if ranks is not None and not how.average else None)
        self._step = step
        self._how = how
        self._finder = shared
        self._share = share
        self._found = found
        self._of = of
        self._heads: list[Gradients] = []
        self._sparse: set[Tensor] = set()
        if share is not None:
            share.arm(step)

    @property
    def found(self) -> Found:
        """The parameters of this step; ``own`` is in the order of the step's tasks."""
        if self._found is None:
            self._found = self._find()
        return self._found

    @property
    def searched(self) -> bool:
        """Whether the shared parameters were of interest."""
        return self._found is not None

    @property
    def found_without_heads(self) -> Found:
        """The shared parameters, for the losses of another batch whose heads get nothing."""
        return self.found._replace(own=[[] for _ in self._step.names], entry=None)

    def _find(self) -> Found:
        present = self._step.present
        found = None
        if self._share is not None:
            found = self._finder.below(self._share.features, self._share.node, present)
        if found is None:
            self._share = None
            each = zip(self._step.names, self._step.losses, strict=True)
            names = [name for name, loss in each if loss is not None]
            whole = self._how.ranks is not None
            found = self._finder.find(present, names, whole=whole, instead=self._of)
        own = iter(found.own)
        return found._replace(own=[[] if x is None else next(own) for x in self._step.losses])

    def take(self) -> Taken:
        """See :meth:`TaskGradients.take`."""
        found, how = self.found, self._how
        if how.ranks is not None and (self._step.uneven or self._step.fresh):
            refuse_disagreement(found, how.ranks)
        leaves = [*found.shared, *(leaf for own in found.own for leaf in own)]
        factor = how.factor if how.factor is not None else how.scale.value if found.half else 1.0
        with undisturbed(leaves, found.sinks):
            rows = self._gathered(found, factor)
            # The scale of a GradScaler is the user's: an overflow there skips the step.
            while how.factor is None and found.half and not all_finite(rows):
                if not how.scale.lower():
                    break
                factor = how.scale.value
                rows = self._gathered(found, factor)
        if factor != 1.0:
            self._heads = [[g if g is None else g / factor for g in gs] for gs in self._heads]
        if found.doubtful:
            rows = self._told_apart(found, rows, factor)
        unit = None
        if factor != 1.0:
            device = found.shared[0].device
            unit = torch.full((len(self._step.names),), factor, device=device)
        return Taken(rows, unit, [entries_of(p) for p in self.found.shared])

    def rows(self) -> Rows:
        """See :meth:`TaskGradients.rows`; in one piece ``Tensor[K, P]``."""
        arrived, unit, sizes = self.taken()
        parts = joined(arrived)
        if len(parts) > 1 or parts[0].ndim != 2:
            wide = max((part.dtype for part in parts), key=lambda d: torch.finfo(d).bits)
            whole = torch.cat([part.reshape(len(part), -1).to(wide) for part in parts], 1)
            self._taken = Taken([whole], unit, sizes)
        return super().rows()

    def _gathered(self, found: Found, factor: float) -> Arrived:
        """The task gradients times ``factor``; those of the tasks' own parameters are kept beside."""
        ranks = self._how.ranks if self._how.average else None
        names = self._step.names
        gathering = Gathering(
            len(names), found.shared, None if ranks is None else ranks.mean_in_place
        )
        self._heads = [[] for _ in found.own]
        shared = found.shared

        def alone(k: int, loss: Tensor, keep: bool) -> Gradients:
            got = self._gradient(k, loss, [*shared, *found.own[k]], factor, keep)
            self._heads[k] = got[len(shared) :]
            return got[: len(shared)]

        keep = self._keeps(factor)
        ways = Ways(self._step, found, self._share, self._finder, factor, keep, self._heads)
        for k, gradients in ways.passed(gathering, alone):
            if gradients is not None and ranks is None and all(g is None for g in gradients):
                raise unreached(names[k])
            gathering.take_row(k, gradients)
            del gradients
        rows = gathering.rows()
        self._sparse = gathering.sparse
        return rows

    def _gradient(
        self, k: int, loss: Tensor, tensors: Sequence[Tensor], factor: float, keep: bool
    ) -> Gradients:
        """The gradient of the loss of task k, times ``factor``."""
        return backward(loss, tensors, factor, keep_graph=keep)

    def _keeps(self, factor: float) -> bool:
        # A pass in float16 may have to be made again.
        return self._how.keep_graph or (self._how.factor is None and factor != 1.0)

    def _told_apart(self, found: Found, arrived: Arrived, factor: float) -> Rows:
        """Takes out of the rows what turns out to belong to heads."""
        sizes, rows = [entries_of(p) for p in found.shared], joined(arrived)
        whole = len(rows) < len(sizes)
        pieces = list(torch.split(rows[0], sizes, dim=1)) if whole else rows
        moved = torch.stack(
            [part.reshape(len(part), -1).ne(0).any(1) for part in pieces], dim=1
        ).tolist()
        self._found, heads = self._finder.told_apart(found, self._step.names, moved)
        for tensor, piece, k in zip(found.shared, pieces, heads, strict=True):
            if k >= 0:
                self._heads[k].append(cut(piece[k].flatten() / factor, [tensor])[0])
        kept = [piece for piece, k in zip(pieces, heads, strict=True) if k < 0]
        if len(kept) == len(pieces):
            return rows
        return [torch.cat(kept, 1)] if whole else kept

    def overflows(self) -> bool:
        """Whether some task gradient left the range of float16, or the factor was too large for it."""
        asked = self._how.factor is not None
        if not asked and not self.found.half:
            return False
        if all_finite(self.taken().rows):
            return False
        if not asked:
            warn_of_overflow()
        return True

    def overflowed(self) -> Tensor:
        """The loss with its gradients as they came, for a GradScaler to find them not finite."""
        ones = torch.ones_like(self._step.values)
        return self._deliver(summed(self.taken().rows), ones, ones, self._how.factor or 1.0)

    def deliver(
        self,
        weights: Tensor | None,
        direction: list[Tensor] | None,
        heads: Tensor,
        shown: Tensor,
        gradients: TaskGradients,
    ) -> Tensor:
        """The balanced loss with its gradients behind it.

        Args:
            weights: of the losses, ``Tensor[K]``; None for a method that has none.
            direction: the gradient of the shared parameters, where it is no weighted sum.
            heads: what each head's gradient is multiplied with, ``Tensor[K]``.
            shown: the weights that give the value.
            gradients: what the rule saw.
        """
        factor = 1.0 if self._how.factor is None else self._how.factor
        if direction is None and not self._holds(gradients) and weights is not None:
            if weights is heads:
                total = self._step.weighted(weights)
                return total if factor == 1.0 else total * factor
            if not self.found.doubtful and (self._how.factor is not None or not self.found.half):
                return self._by_two_passes(weights, heads, shown, factor)
        if direction is None:
            assert weights is not None
            direction = gradients.combine(weights)
        return self._deliver(direction, heads, shown, factor)

    def _holds(self, gradients: TaskGradients) -> bool:
        """Whether there are rows that a direction can be combined of."""
        return gradients.asked

    def _deliver(
        self, direction: list[Tensor], heads: Tensor, shown: Tensor, factor: float
    ) -> Tensor:
        found = self.found
        if factor != 1.0:
            direction, heads = [d * factor for d in direction], heads * factor
        gradients: list[Tensor | None] = [*cut_to(direction, found.shared)]
        if self._sparse:
            each = zip(found.shared, cut_to(direction, found.shared), strict=True)
            gradients = [g.to_sparse(1) if p in self._sparse else g for p, g in each]
        rest: dict[Tensor, Tensor] = {}
        factors: Any = heads.tolist() if host.at_hand(heads) else heads.unbind()
        for leaves, of_task, by in zip(found.own, self._heads, factors, strict=True):
            for leaf, gradient in zip(leaves, of_task, strict=True):
                if gradient is not None:
                    scaled = gradient if isinstance(by, float) and by == 1.0 else gradient * by
                    rest[leaf] = scaled if leaf not in rest else rest[leaf] + scaled
        return self._behind(shown, [*found.shared, *rest], [*gradients, *rest.values()])

    def _by_two_passes(
        self, weights: Tensor, heads: Tensor, shown: Tensor, factor: float
    ) -> Tensor:
        """One pass for the shared parameters and one for the heads: the weights are known."""
        found, step = self.found, self._step
        own = list(dict.fromkeys(leaf for leaves in found.own for leaf in leaves))
        keep = self._how.keep_graph
        with undisturbed([*found.shared, *own], found.sinks):
            gradients = backward(
                step.weighted(weights), found.shared, factor, keep_graph=keep or bool(own)
            )
            if own:
                gradients += backward(step.weighted(heads), own, factor, keep_graph=keep)
        return self._behind(shown, [*found.shared, *own], gradients)

    def _behind(self, shown: Tensor, leaves: list[Tensor], gradients: Gradients) -> Tensor:
        value, once = self._step.light().weighted(shown), not self._how.keep_graph
        return Delivery(leaves, gradients, self.found.sinks, once=once).behind(value)
