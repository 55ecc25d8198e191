"""Data of each task's own, and which task is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

import torch
from torch import Tensor

from equipoise.data import proportions
from equipoise.problems.data import Batch, Source
from equipoise.problems.nesting import ByTask


@dataclass(frozen=True)
class TaskSampler:
    """Draws the task of each step.

    Attributes:
        temperature: of the shares by number of examples, see :func:`equipoise.data.proportions`: 1 draws as
            the data are, infinity draws every task alike.
        weights: probabilities up to a factor, by task, instead.
    """

    temperature: float = 1.0
    weights: Mapping[str, float] | None = None

    def probabilities(self, sizes: Mapping[str, int]) -> Tensor:
        """Of each task, ``Tensor[K]``.

        Raises:
            ValueError: a weight is missing or not positive, or the temperature is not positive.
        """
        if self.weights is None:
            shares = proportions(sizes, self.temperature)
        elif set(self.weights) != set(sizes):
            raise ValueError(f"weights needs a positive number for each of {', '.join(sizes)}")
        else:
            shares = proportions({name: self.weights[name] for name in sizes})
        return torch.tensor(list(shares.values()), dtype=torch.float64)


@dataclass(frozen=True)
class PerTask:
    """Every task its own data.

    Attributes:
        sources: by task; the batches of each have the targets of that task.
        draw: ``"together"``: every step has a batch of each task, of equal parts of the batch size, and an
            epoch lasts until the largest source is through; smaller ones begin again. A
            :class:`TaskSampler`: every step has a batch of one task.
    """

    sources: Mapping[str, Source]
    draw: Literal["together"] | TaskSampler = "together"

    def only(self, names: Iterable[str]) -> PerTask:
        """The data of some tasks; chances that were given keep their proportions."""
        wanted = set(names)
        draw = self.draw
        if isinstance(draw, TaskSampler) and draw.weights is not None:
            kept = {name: weight for name, weight in draw.weights.items() if name in wanted}
            draw = TaskSampler(draw.temperature, kept)
        return PerTask({n: s for n, s in self.sources.items() if n in wanted}, draw)

    def __len__(self) -> int:
        return sum(map(len, self.sources.values()))

    def _part(self, size: int) -> int:
        return max(size // len(self.sources), 1) if self.draw == "together" else size

    def steps(self, size: int) -> int:
        """See :meth:`Source.steps`."""
        steps = [source.steps(self._part(size)) for source in self.sources.values()]
        return max(steps) if self.draw == "together" else sum(steps)

    def batches(self, size: int, seed: int | None) -> Iterator[Batch]:
        """See :meth:`Source.batches`."""
        if seed is None:
            # Every task from the first batch on, so that whoever looks at a few batches sees all of them.
            part = max(size // len(self.sources), 1)
            columns = (source.batches(part, None) for source in self.sources.values())
            for row in zip_longest(*columns):
                yield _together({n: b for n, b in zip(self.sources, row, strict=True) if b})
            return
        endless = {
            name: _endless(source, self._part(size), 31 * seed + number)
            for number, (name, source) in enumerate(self.sources.items())
        }
        count = self.steps(size)
        if isinstance(self.draw, TaskSampler):
            names = list(endless)
            chances = self.draw.probabilities({n: len(s) for n, s in self.sources.items()})
            random = torch.Generator().manual_seed(seed)
            for drawn in torch.multinomial(chances, count, replacement=True, generator=random):
                name = names[int(drawn)]
                yield _together({name: next(endless[name])})
            return
        for _ in range(count):
            yield _together({name: next(source) for name, source in endless.items()})


def _together(parts: Mapping[str, Batch]) -> Batch:
    return Batch(
        ByTask({name: batch.inputs for name, batch in parts.items()}),
        {name: _target(name, batch) for name, batch in parts.items()},
        sum(batch.size for batch in parts.values()),
    )


def _target(name: str, batch: Batch) -> Any:
    if name not in batch.targets:
        raise ValueError(
            f"the source of task {name!r} has no targets of it; it has: {', '.join(batch.targets)}"
        )
    return batch.targets[name]


def _endless(source: Source, size: int, seed: int) -> Iterator[Batch]:
    while True:
        empty = True
        for batch in source.batches(size, seed):
            empty = False
            yield batch
        if empty:
            raise ValueError("a source of a task gave no batch; has it any examples?")
        seed += 1_000_003
