"""Rows of different lengths in memory: each batch is padded to its own longest row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equipoise.problems.data import Batch
from equipoise.problems.nesting import nested, tensors


class Ragged:
    """Rows of different lengths, one after the other.

    Args:
        values: of all rows, ``Tensor[S, ...]``.
        starts: where each row begins, and last where the last one ends, ``Tensor[N + 1]``.
        fill: what shorter rows of a batch are filled up with.

    Raises:
        ValueError: there is no row, or the rows do not end where the values do.
    """

    def __init__(self, values: Tensor, starts: Tensor, fill: int = 0) -> None:
        if len(starts) < 2 or int(starts[-1]) != len(values):
            raise ValueError(f"{len(starts) - 1} rows do not share out {len(values)} values")
        self.values = values
        self.starts = starts
        self.fill = fill

    @classmethod
    def of(cls, rows: Sequence[Sequence[Any]], fill: int = 0) -> Ragged:
        """Of rows of integers, or of lists of as many integers each."""
        starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        flat = np.asarray([value for row in rows for value in row], dtype=np.int32)
        return cls(torch.from_numpy(flat), torch.from_numpy(starts), fill)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def padded(self, index: Tensor) -> Tensor:
        """Some rows, ``Tensor[B, T, ...]`` of int64, where T is the length of the longest."""
        starts = self.starts[index]
        lengths = self.starts[index + 1] - starts
        steps = torch.arange(int(lengths.max()), device=starts.device)
        there = steps < lengths.unsqueeze(1)
        out = torch.full((*there.shape, *self.values.shape[1:]), self.fill, dtype=torch.int64)
        out[there] = self.values[(starts.unsqueeze(1) + steps)[there]].long()
        return out


class Sequences:
    """Examples in memory, some of whose inputs or targets are :class:`Ragged`.

    Args:
        inputs: nesting of ``Ragged`` and ``Tensor[N, ...]``.
        targets: by task.

    Raises:
        ValueError: they differ in their number of rows.
    """

    def __init__(self, inputs: Any, targets: Mapping[str, Any]) -> None:
        self.inputs = inputs
        self.targets = targets
        rows: set[int] = set()

        def counted(leaf: Any) -> Any:
            rows.add(len(leaf))
            return leaf

        nested(counted, [inputs, targets], counted)
        if len(rows) != 1:
            raise ValueError(f"inputs and targets have different numbers of rows: {sorted(rows)}")
        (self._rows,) = rows

    def __len__(self) -> int:
        return self._rows

    def steps(self, size: int) -> int:
        """See :meth:`Source.steps`."""
        return self._rows // min(size, self._rows)

    def take(self, index: Tensor) -> Batch:
        """The rows ``index`` as a batch."""
        inputs, targets = (
            nested(lambda tensor: tensor[index], part, lambda ragged: ragged.padded(index))
            for part in (self.inputs, self.targets)
        )
        return Batch(inputs, targets, len(next(tensors(inputs))))

    def batches(self, size: int, seed: int | None) -> Iterator[Batch]:
        """See :meth:`Source.batches`."""
        if seed is None:
            for start in range(0, self._rows, size):
                yield self.take(torch.arange(start, min(start + size, self._rows)))
            return
        size = min(size, self._rows)
        order = torch.randperm(self._rows, generator=torch.Generator().manual_seed(seed))
        for number in range(self._rows // size):
            yield self.take(order[number * size : (number + 1) * size])
