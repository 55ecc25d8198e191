"""The rows of task gradients, gathered as backward passes bring them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from equipoise.gradients.base import Arrived, entries_of
from equipoise.gradients.passes import Found, empty, fill, flat_as

# Entries of all shared parameters up to which one matrix is handled faster than one for each parameter.
_SMALL = 1 << 16
_NARROW = (torch.float16, torch.bfloat16)


class Gathering:
    """K gradients of each of some parameters.

    Small ones are joined to one ``Tensor[K, P]``. Otherwise what the passes bring is kept as it is.

    Args:
        tasks: K.
        like: the parameters.
        mean_in_place: starts averaging a row over ranks, and returns what waits for it; None for one rank.
    """

    def __init__(
        self,
        tasks: int,
        like: Sequence[Tensor],
        mean_in_place: Callable[[Tensor], Callable[[], None]] | None,
    ) -> None:
        self.sizes = [entries_of(p) for p in like]
        self.sparse: set[Tensor] = set()
        self._tasks = tasks
        self._like = like
        self._blocks: Mapping[Tensor, Tensor] = {}
        self._mean_in_place = mean_in_place
        self._waiting: list[Callable[[], None]] = []
        self._joined = mean_in_place is not None or sum(self.sizes) <= _SMALL
        self._matrix: Tensor | None = None
        self._rows: dict[int, Found] = {}

    def take_blocks(self, blocks: Mapping[Tensor, Tensor]) -> None:
        """Takes gradients ``Tensor[K, ...]`` of all tasks; rows that come later add to them."""
        self._blocks = blocks

    def take_row(self, task: int, gradients: Sequence[Tensor | None] | None) -> None:
        """Takes one task's gradients; None where it is absent."""
        if not self._joined:
            if gradients is not None:
                self._rows[task] = list(gradients)
            return
        if self._matrix is None:
            self._matrix = empty(self._tasks, self._like)
        row = self._matrix[task]
        if gradients is None and not self._blocks:
            row.zero_()
        else:
            merged = [
                self._merged(task, p, None if gradients is None else gradients[m])
                for m, p in enumerate(self._like)
            ]
            self.sparse.update(fill(row, merged, self._like))
        if self._mean_in_place is not None:
            # Under way while the next task's pass runs.
            self._waiting.append(self._mean_in_place(row))

    def _merged(self, task: int, parameter: Tensor, gradient: Tensor | None) -> Tensor | None:
        block = self._blocks.get(parameter)
        if block is None:
            return gradient
        return block[task] if gradient is None else block[task] + gradient

    def rows(self) -> Arrived:
        """All of them: one ``Tensor[K, P]``, or ``Tensor[K, ...]`` or K tensors for each parameter."""
        if not self._joined:
            return [self._of_parameter(m) for m in range(len(self._like))]
        if self._matrix is None:
            self._matrix = self._of_blocks()
        for finish in self._waiting:
            finish()
        return [self._matrix]

    def _of_blocks(self) -> Tensor:
        """What was taken in blocks only."""
        first = next(iter(self._blocks.values()))
        parts = [
            first.new_zeros(self._tasks, size)
            if (block := self._blocks.get(p)) is None
            else block.reshape(self._tasks, size)
            for p, size in zip(self._like, self.sizes, strict=True)
        ]
        matrix = torch.cat(parts, 1)
        if self._mean_in_place is not None:
            self._waiting.append(self._mean_in_place(matrix))
        return matrix

    def _of_parameter(self, m: int) -> Tensor | list[Tensor]:
        """The gradients of one parameter."""
        parameter = self._like[m]
        shape = (*parameter.shape, 2) if parameter.is_complex() else parameter.shape
        found = [None if row is None else row[m] for row in map(self._rows.get, range(self._tasks))]
        block = self._blocks.get(parameter)
        if block is not None and all(g is None for g in found):
            return block
        if any(g is not None and g.is_sparse for g in found):
            self.sparse.add(parameter)
        like = self._like[0].new_empty((), dtype=_kept_as(parameter))
        zeros = like.new_zeros(()).expand(shape)
        rows = [zeros if g is None else flat_as(g, like).view(shape) for g in found]
        return rows if block is None else torch.stack(rows) + block


def _kept_as(parameter: Tensor) -> torch.dtype:
    """The dtype of task gradients: half precision is widened, since K of them are going to be summed."""
    dtype = parameter.dtype.to_real() if parameter.is_complex() else parameter.dtype
    return torch.float32 if dtype in _NARROW else dtype
