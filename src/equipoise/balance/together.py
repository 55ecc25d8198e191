"""The losses of a step over several processes: who has which, and what the whole batch's are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from equipoise.balance.naming import Losses, named, require_graph
from equipoise.gradients.ranks import Ranks
from equipoise.gradients.step import Step, stacked

Weight: TypeAlias = "float | Mapping[str, float] | None"

_NOTHING_HERE = (
    "a process has no loss at all in this step, and the others would wait for its gradients; give every "
    "process a batch with at least one task"
)


class Whole(NamedTuple):
    """The losses of a step over all ranks.

    Attributes:
        names: tasks that some rank has.
        present: this rank's losses, with their graph.
        values: the whole batch's losses, weighted means over the ranks that have them.
        shares: what this rank's losses count, on average 1.
        bad: tasks with a loss that is not finite on some rank.
        uneven: whether some rank lacks some task.
        fresh: whether some rank has yet to take the first rank's state.
    """

    names: tuple[str, ...]
    present: Mapping[str, Tensor]
    values: list[float]
    shares: list[float]
    bad: set[str]
    uneven: bool
    fresh: bool

    def step(self, tasks: tuple[str, ...], number: int) -> Step:
        """The step of the tasks whose losses are finite.

        This rank's losses are multiplied with their shares, so that from here on the mean over ranks of
        anything linear in them is the whole batch's.

        Raises:
            ValueError: this rank has none of them.
        """
        kept = [k for k, name in enumerate(self.names) if name not in self.bad]
        names = tuple(self.names[k] for k in kept)
        mine = [self._counted(name, self.shares[k]) for k, name in zip(kept, names, strict=True)]
        if all(loss is None for loss in mine):
            raise ValueError(_NOTHING_HERE)
        together = stacked(mine)
        values = together.new_tensor([self.values[k] for k in kept])
        positions = None if names == tasks else tuple(map(tasks.index, names))
        left_out = [loss for name, loss in self.present.items() if name in self.bad]
        return Step(
            names,
            mine,
            together,
            values,
            values,
            positions,
            number,
            left_out,
            self.uneven,
            self.fresh,
            True,
        )

    def _counted(self, name: str, share: float) -> Tensor | None:
        loss = self.present.get(name)
        return loss if loss is None or share == 1.0 else loss * share


def over_ranks(
    losses: Losses,
    tasks: tuple[str, ...],
    ranks: Ranks,
    weight: Weight,
    *,
    fresh: bool,
    graph: bool,
) -> Whole:
    """Reads the losses of a call on every rank, by one reduction.

    Args:
        losses: what the user gave at this rank.
        tasks: names of all tasks.
        ranks: the processes that train together.
        weight: how many examples this rank has, of all tasks or task by task.
        fresh: whether this rank has yet to take the first rank's state.
        graph: whether they have to have a graph.

    Raises:
        TypeError: a loss is no tensor.
        ValueError: a loss cannot be used, on this rank or another, or some rank has none.
    """
    try:
        present = named(losses, tasks)
        if graph:
            present = require_graph(present)
        counts = [_count(name, weight) if name in present else 0.0 for name in tasks]
    except (TypeError, ValueError):
        # The others wait for what this rank has to say.
        _total(tasks, {}, [0.0] * len(tasks), ranks, [1.0, 0.0, 0.0])
        raise
    flags = [0.0, float(not present), float(fresh)]
    sums, totals, broken, having, told = _total(tasks, present, counts, ranks, flags)
    if told[0]:
        raise ValueError(
            "another process could not read the losses of this step; its error says why"
        )
    if told[1]:
        raise ValueError(_NOTHING_HERE)
    some = [k for k, total in enumerate(totals) if total > 0]
    return Whole(
        tuple(tasks[k] for k in some),
        present,
        [sums[k] / totals[k] for k in some],
        [ranks.size * counts[k] / totals[k] for k in some],
        {tasks[k] for k in some if broken[k]},
        any(having[k] < ranks.size for k in some),
        bool(told[2]),
    )


def _total(
    tasks: tuple[str, ...],
    present: Mapping[str, Tensor],
    counts: list[float],
    ranks: Ranks,
    flags: list[float],
) -> list[list[float]]:
    """Sums over ranks: of counted losses, counts, losses not finite, losses there, and flags."""
    device = next(iter(present.values())).device if present else ranks.device
    own = torch.zeros(len(tasks), dtype=torch.float64, device=device)
    for k, name in enumerate(tasks):
        if name in present:
            own[k] = present[name].detach()
    finite = own.isfinite()
    count = own.new_tensor(counts)
    parts = [own.where(finite, 0.0) * count, count, ~finite, count > 0, own.new_tensor(flags)]
    found = ranks.total(torch.cat([part.to(own) for part in parts]))
    return [part.tolist() for part in torch.split(found.cpu(), [len(part) for part in parts])]


def _count(name: str, weight: Weight) -> float:
    """How many examples this rank has of a task."""
    if weight is None:
        return 1.0
    count = weight.get(name) if isinstance(weight, Mapping) else weight
    if count is None or not float(count) > 0:
        raise ValueError(
            f"weight={count} of task '{name}' must be positive: it is this process's number of examples; "
            "leave the loss out where there are none"
        )
    return float(count)
