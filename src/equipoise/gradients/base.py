"""Task gradients as one value: nothing is computed before somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from equipoise.gradients import host
from equipoise.solvers.products import cancels, combine, gramian

# Task gradients, one [K, ...] tensor for each tensor that they are gradients of.
Rows = list[Tensor]
# The same as backward passes bring them: one [K, ...] tensor or K tensors for each.
Arrived = Sequence["Tensor | Sequence[Tensor]"]
# A rule on task gradients and, at the features, the features themselves: one gradient [...] for each tensor.
Entrywise = Callable[[Rows, list[Tensor]], list[Tensor]]


class Taken(NamedTuple):
    """What the backward passes of one step gave.

    Attributes:
        rows: one ``Tensor[K, ...]``, or K tensors, for each tensor that they are gradients of.
        unit: ``Tensor[K]``, what the gradients were multiplied with on their way (loss scaling, what the
            heads' losses were multiplied with); None is 1.
        sizes: entries of the single tensors, where ``rows`` holds them in one piece ``Tensor[K, P]``.
    """

    rows: Arrived
    unit: Tensor | None = None
    sizes: Sequence[int] = ()


class TaskGradients:
    """The gradients of K losses with respect to what they share.

    Args:
        over_ranks: turns this rank's Gramian into that of the whole batch.
    """

    def __init__(self, over_ranks: Callable[[Tensor], Tensor] | None = None) -> None:
        self.over_ranks = over_ranks
        self._taken: Taken | None = None
        self._gramian: Tensor | None = None
        self._losses: Tensor | None = None

    def take(self) -> Taken:
        """Finds the gradients; called once, by whoever asks first."""
        raise NotImplementedError

    @property
    def asked(self) -> bool:
        """Whether anybody asked for them."""
        return self._taken is not None

    def taken(self) -> Taken:
        """The gradients as they arrived."""
        if self._taken is None:
            self._taken = self.take()
        return self._taken

    def rows(self) -> Rows:
        """The gradients, one ``Tensor[K, ...]`` for each tensor."""
        arrived, unit, sizes = self.taken()
        rows = joined(arrived)
        self._taken = Taken(rows, unit, sizes)
        if unit is None:
            return rows
        undo = 1 / unit
        return [part * undo.to(part).view(-1, *[1] * (part.ndim - 1)) for part in rows]

    def gramian(self) -> Tensor:
        """Their inner products ``Tensor[K, K]`` over the whole batch, in float64 on the CPU."""
        if self._gramian is None:
            self._gramian = self._products().cpu()
        return self._gramian

    def with_losses(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """The inner products, and the losses ``Tensor[K]``, in float64 on the CPU: one wait for both."""
        if self._losses is None:
            if self._gramian is not None or host.at_hand(losses):
                self._losses = losses.double().cpu()
            else:
                found = self._products()
                both = torch.cat([found.flatten(), losses.to(found)]).cpu()
                self._gramian = both[: found.numel()].view(found.shape)
                self._losses = both[found.numel() :]
        return self.gramian(), self._losses

    def _products(self) -> Tensor:
        rows, unit, _ = self.taken()
        found = gramian(p.reshape(len(p), -1) if isinstance(p, Tensor) else p for p in rows)
        if self.over_ranks is not None:
            found = self.over_ranks(found)
        if unit is not None:
            undo = 1 / unit.to(found)
            found = found * undo.unsqueeze(-1) * undo
        return found

    def combine(self, weights: Tensor, scale: Tensor | None = None) -> list[Tensor]:
        """The sum, with ``Tensor[K]`` weights, of the gradients of each tensor, times ``scale``."""
        rows, unit, _ = self.taken()
        wide = None if self._gramian is None else cancels(weights, self._gramian)
        if unit is not None:
            weights = weights.to(unit) / unit
        if scale is not None:
            weights = weights.to(scale) * scale
        if not host.at_hand(weights):
            # Rows by themselves are multiplied with numbers, which would have to be waited for.
            rows = joined(rows)
        return [
            combine(weights, part.reshape(len(part), -1), wide=wide).view(part.shape[1:])
            if isinstance(part, Tensor)
            else combine(weights, part, wide=wide)
            for part in rows
        ]

    def entries(self, rule: Entrywise) -> list[Tensor]:
        """What a rule makes of the single entries."""
        return rule(self.rows(), [])

    def changed(self, change: Callable[[Rows], Rows]) -> TaskGradients:
        """The gradients after a change of their rows."""
        return _Changed(self, change)


class _Changed(TaskGradients):
    """Task gradients of which only the rows are others."""

    def __init__(self, whole: TaskGradients, change: Callable[[Rows], Rows]) -> None:
        super().__init__(whole.over_ranks)
        self._whole = whole
        self._change = change

    def take(self) -> Taken:
        return Taken(self._change(self._whole.rows()), None, self._whole.taken().sizes)

    def entries(self, rule: Entrywise) -> list[Tensor]:
        return self._whole.entries(lambda rows, features: rule(self._change(rows), features))


class ByTensor(TaskGradients):
    """Task gradients with one Gramian, and one set of weights, for every tensor.

    Args:
        whole: the gradients, in one piece.
    """

    def __init__(self, whole: TaskGradients) -> None:
        super().__init__(whole.over_ranks)
        self._whole = whole

    def take(self) -> Taken:
        """See :meth:`TaskGradients.take`."""
        return Taken(self._whole.rows(), None, self._whole.taken().sizes)

    def _cut(self) -> list[Tensor]:
        (flat,) = self.rows()
        return list(torch.split(flat, list(self.taken().sizes), dim=1))

    def _products(self) -> Tensor:
        """The inner products of every tensor's gradients, ``Tensor[T, K, K]``."""
        found = torch.stack([gramian([part]) for part in self._cut()])
        return found if self.over_ranks is None else self.over_ranks(found)

    def combine(self, weights: Tensor, scale: Tensor | None = None) -> list[Tensor]:
        """The sum with weights ``Tensor[T, K]``, times ``scale``."""
        parts = zip(weights, self._cut(), self.gramian(), strict=True)
        whole = torch.cat([combine(w, part, g) for w, part, g in parts])
        return [whole if scale is None else whole * scale.to(whole)]

    def shares(self) -> Tensor:
        """The share of each tensor in all entries, ``Tensor[T]``."""
        sizes = torch.tensor(self.taken().sizes, dtype=torch.float64)
        return sizes / sizes.sum()


class Crossed(TaskGradients):
    """Task gradients of three independent batches: products across the first two, the sum of the third.

    Args:
        first: of the first batch.
        second: of the second.
        third: of the batch that makes the step.
    """

    def __init__(self, first: TaskGradients, second: TaskGradients, third: TaskGradients) -> None:
        super().__init__(third.over_ranks)
        self._pair = first, second
        self._third = third

    def take(self) -> Taken:
        """See :meth:`TaskGradients.take`."""
        return self._third.taken()

    def _products(self) -> Tensor:
        """Inner products ``Tensor[K, K]`` of the first batch's gradients with the second's."""
        (one,), (other,) = (batch.rows() for batch in self._pair)
        found = one.double() @ other.double().mT
        return found if self.over_ranks is None else self.over_ranks(found)

    def combine(self, weights: Tensor, scale: Tensor | None = None) -> list[Tensor]:
        """The weighted sum of the third batch's gradients."""
        self.taken()
        return self._third.combine(weights, scale)


def joined(arrived: Arrived) -> Rows:
    """Task gradients, one ``Tensor[K, ...]`` for each tensor."""
    return [part if isinstance(part, Tensor) else torch.stack(list(part)) for part in arrived]


def all_finite(arrived: Arrived) -> bool:
    """Whether every entry of some task gradients is finite."""
    return all(
        bool(x.isfinite().all())
        for part in arrived
        for x in ([part] if isinstance(part, Tensor) else part)
    )


def summed(arrived: Arrived) -> list[Tensor]:
    """Their plain sum."""
    return [part.sum(0) if isinstance(part, Tensor) else _total(part) for part in arrived]


def _total(rows: Sequence[Tensor]) -> Tensor:
    total = rows[0] + rows[1] if len(rows) > 1 else rows[0]
    for row in rows[2:]:
        total = total.add_(row)
    return total


def cut_to(direction: list[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of each tensor, from one ``Tensor[P]`` of all or one for each."""
    if len(direction) == len(like) > 1:
        return [_shaped(d, tensor) for d, tensor in zip(direction, like, strict=True)]
    return cut(direction[0].flatten(), like)


def cut(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Cuts ``Tensor[P]`` into the shapes and dtypes of the tensors."""
    pieces = flat.split_with_sizes([entries_of(tensor) for tensor in like])
    return [_shaped(piece, tensor) for piece, tensor in zip(pieces, like, strict=True)]


def entries_of(tensor: Tensor) -> int:
    """Real numbers in a tensor; a complex entry is two."""
    return tensor.numel() * (2 if tensor.is_complex() else 1)


def _shaped(piece: Tensor, like: Tensor) -> Tensor:
    if like.is_complex():
        return torch.view_as_complex(piece.view(*like.shape, 2)).to(like.dtype)
    piece = piece.view(like.shape)
    return piece if piece.dtype is like.dtype else piece.to(like.dtype)
