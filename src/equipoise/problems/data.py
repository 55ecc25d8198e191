"""Where batches come from: tensors in memory, loaders, and data of each task's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor


def nested(
    change: Callable[[Tensor], Tensor], value: Any, other: Callable[[Any], Any] | None = None
) -> Any:
    """The same nesting of tuples, lists and mappings, with every tensor changed.

    Args:
        change: of a tensor.
        value: the nesting.
        other: change of what is neither a tensor nor a nesting; None leaves it.
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        parts = {key: nested(change, part, other) for key, part in value.items()}
        return ByTask(parts) if isinstance(value, ByTask) else parts
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(nested(change, part, other) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(nested(change, part, other) for part in value)
    return value if other is None else other(value)


def moved(value: Any, device: str | torch.device) -> Any:
    """The same on another device; graphs and the like are asked for ``to``."""

    def other(leaf: Any) -> Any:
        return leaf.to(device) if hasattr(leaf, "to") else leaf

    return nested(lambda tensor: tensor.to(device), value, other)


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of a nesting."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(map(tensors, value.values()))
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(map(tensors, value))


class ByTask(dict[str, Any]):
    """Inputs of each task's own."""


class Batch(NamedTuple):
    """Examples of a step.

    Attributes:
        inputs: what the model takes, any nesting of tensors; :class:`ByTask` where tasks have inputs of
            their own.
        targets: by task; a task that is not in it has no labels here.
        size: number of examples.
    """

    inputs: Any
    targets: Mapping[str, Any]
    size: int

    def to(self, device: str | torch.device) -> Batch:
        """The batch on another device."""
        return Batch(moved(self.inputs, device), moved(self.targets, device), self.size)

    def only(self, tasks: Iterable[str]) -> Batch:
        """The batch with the labels of some tasks, and their inputs where these are their own."""
        names = set(tasks)
        inputs = self.inputs
        if isinstance(inputs, ByTask):
            inputs = ByTask({name: x for name, x in inputs.items() if name in names})
        return Batch(
            inputs, {name: y for name, y in self.targets.items() if name in names}, self.size
        )


class Source(Protocol):
    """The examples of a split. It gives the same ones at every call."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def steps(self, size: int) -> int:
        """Training batches of an epoch."""
        ...

    def batches(self, size: int, seed: int | None) -> Iterable[Batch]:
        """Batches of ``size`` examples, shuffled by ``seed`` and full; None: every example, in order."""
        ...


class Tensors:
    """Examples in memory: inputs of any nesting of ``Tensor[N, ...]``, and targets by task.

    Raises:
        ValueError: they differ in their number of rows.
    """

    def __init__(self, inputs: Any, targets: Mapping[str, Any]) -> None:
        self.inputs = inputs
        self.targets = targets
        rows = [len(t) for t in tensors(inputs)]
        if not rows:
            raise ValueError("there is no tensor among the inputs; use Loader for other data")
        for task, target in targets.items():
            for tensor in tensors(target):
                if len(tensor) != rows[0]:
                    raise ValueError(
                        f"targets of {task!r} have {len(tensor)} rows but there are {rows[0]} inputs"
                    )
        if len(set(rows)) > 1:
            raise ValueError(f"the inputs have different numbers of rows: {rows}")
        self._rows = rows[0]

    def __len__(self) -> int:
        return self._rows

    def steps(self, size: int) -> int:
        """See :meth:`Source.steps`."""
        return self._rows // min(size, self._rows)

    def take(self, index: Tensor | slice) -> Batch:
        """The rows ``index`` as a batch."""
        inputs, targets = (nested(lambda t: t[index], x) for x in (self.inputs, self.targets))
        return Batch(inputs, targets, len(next(tensors(inputs))))

    def batches(self, size: int, seed: int | None) -> Iterator[Batch]:
        """See :meth:`Source.batches`."""
        if seed is None:
            for start in range(0, self._rows, size):
                yield self.take(slice(start, start + size))
            return
        size = min(size, self._rows)
        order = torch.randperm(self._rows, generator=torch.Generator().manual_seed(seed))
        for number in range(self._rows // size):
            yield self.take(order[number * size : (number + 1) * size])

    def to(self, device: str) -> Tensors:
        """The same examples on another device."""
        return Tensors(moved(self.inputs, device), moved(self.targets, device))


@dataclass(frozen=True)
class Loader:
    """Examples from a ``torch.utils.data.DataLoader`` or any other iterable.

    Attributes:
        make: from batch size and seed (None: every example, in order) to an iterable of :class:`Batch`, or
            of pairs of inputs and targets by task.
        rows: number of examples.
    """

    make: Callable[[int, int | None], Iterable[Any]]
    rows: int

    def __len__(self) -> int:
        return self.rows

    def steps(self, size: int) -> int:
        """See :meth:`Source.steps`."""
        made: Any = self.make(size, 0)
        return len(made) if hasattr(made, "__len__") else max(self.rows // size, 1)

    def batches(self, size: int, seed: int | None) -> Iterator[Batch]:
        """See :meth:`Source.batches`.

        Raises:
            TypeError: the iterable gives something else.
        """
        for item in self.make(size, seed):
            yield _as_batch(item)


def _as_batch(item: Any) -> Batch:
    if isinstance(item, Batch):
        return item
    if isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[1], Mapping):
        inputs, targets = item
        count = next((len(t) for t in tensors([inputs, targets]) if t.ndim), None)
        if count is not None:
            return Batch(inputs, targets, count)
    raise TypeError(
        f"the loader gave a {type(item).__name__}; let it give a Batch(inputs, targets, size), or a pair of "
        "inputs and a mapping from task to targets"
    )


@dataclass(frozen=True)
class TaskSampler:
    """Draws the task of each step.

    Attributes:
        temperature: probabilities are proportional to (number of examples)^(1 / temperature): 1 draws as the
            data are, infinity draws every task alike.
        weights: probabilities up to a factor, by task, instead.
    """

    temperature: float = 1.0
    weights: Mapping[str, float] | None = None

    def probabilities(self, sizes: Mapping[str, int]) -> Tensor:
        """Of each task, ``Tensor[K]``.

        Raises:
            ValueError: a weight is missing or negative, or the temperature is not positive.
        """
        if self.weights is not None:
            if set(self.weights) != set(sizes) or min(self.weights.values()) < 0:
                raise ValueError(f"weights needs a number >= 0 for each of {', '.join(sizes)}")
            raw = torch.tensor([float(self.weights[name]) for name in sizes], dtype=torch.float64)
        elif self.temperature <= 0:
            raise ValueError(f"temperature={self.temperature} must be positive")
        else:
            counts = torch.tensor(list(sizes.values()), dtype=torch.float64)
            raw = (counts / counts.sum()) ** (1 / self.temperature)
        return raw / raw.sum()


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
            for name, source in self.sources.items():
                for batch in source.batches(size, None):
                    yield _of_task(name, batch)
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
                yield _of_task(name, next(endless[name]))
            return
        for _ in range(count):
            parts = {name: next(source) for name, source in endless.items()}
            yield Batch(
                ByTask({name: batch.inputs for name, batch in parts.items()}),
                {name: batch.targets[name] for name, batch in parts.items()},
                sum(batch.size for batch in parts.values()),
            )


def _of_task(name: str, batch: Batch) -> Batch:
    return Batch(ByTask({name: batch.inputs}), {name: batch.targets[name]}, batch.size)


def _endless(source: Source, size: int, seed: int) -> Iterator[Batch]:
    while True:
        empty = True
        for batch in source.batches(size, seed):
            empty = False
            yield batch
        if empty:
            raise ValueError("a source of a task gave no batch; has it any examples?")
        seed += 1_000_003
