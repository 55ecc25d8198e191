"""The losses of one call, as everything behind the balancer's door sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Half precision has no room for weights, squares and logarithms of losses.
_NARROW = (torch.float16, torch.bfloat16)


class Step(NamedTuple):
    """The losses of the tasks that take part, in the order of the balancer's tasks.

    Attributes:
        names: the tasks.
        losses: their scalars with the graph, at this rank; None where only other ranks have the task.
        stacked: the same as ``Tensor[K]`` with the graph, at least single precision; 0 for None.
        values: what the method sees: the losses of the whole batch, ``Tensor[K]`` without a graph.
        raw: the losses of the whole batch as they were given, before any transform.
        positions: of the tasks among all tasks; None when every task takes part.
        number: of the step, from 0.
        left_out: losses with a graph that do not take part, since they are not finite.
        uneven: whether some rank lacks some task.
        fresh: whether some rank has yet to take the first rank's state.
        parted: whether ``losses`` are those of a part of the batch.
    """

    names: tuple[str, ...]
    losses: Sequence[Tensor | None]
    stacked: Tensor
    values: Tensor
    raw: Tensor
    positions: tuple[int, ...] | None = None
    number: int = 0
    left_out: Sequence[Tensor] = ()
    uneven: bool = False
    fresh: bool = False
    parted: bool = False

    @property
    def present(self) -> list[Tensor]:
        """The losses that this rank has."""
        return [loss for loss in self.losses if loss is not None]

    def weighted(self, weights: Tensor) -> Tensor:
        """The weighted sum of this rank's losses, with its graph."""
        return torch.dot(weights.to(self.stacked), self.stacked)

    def means(self) -> Sequence[Tensor | None]:
        """The losses of the whole batch, where this rank's are of a part of it."""
        return self.values.unbind() if self.parted else [None] * len(self.names)

    def light(self) -> Step:
        """The same step, holding nothing that would keep a graph alive."""
        detached = self.stacked.detach()
        return self._replace(losses=(), stacked=detached, left_out=())


def stacked(losses: Sequence[Tensor | None]) -> Tensor:
    """The losses as ``Tensor[K]``, in single precision or better, 0 for None."""
    first = next(loss for loss in losses if loss is not None)
    device, kind = first.device, first.dtype
    for x in losses:
        if x is None or x.dtype is not kind or x.device != device:
            break
    else:
        together = torch.stack(losses)  # type: ignore[arg-type]
        return together.float() if kind in _NARROW else together
    given = [
        first.new_zeros(()) if x is None else x if x.device == device else x.to(device)
        for x in losses
    ]
    dtype = first.dtype
    if any(x.dtype != dtype for x in given):
        dtype = max((x.dtype for x in given), key=lambda d: torch.finfo(d).bits)
        given = [x.to(dtype) for x in given]
    out = torch.stack(given)
    return out.float() if dtype in _NARROW else out
