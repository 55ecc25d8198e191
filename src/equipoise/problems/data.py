"""Where batches come from: tensors in memory, and loaders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from equipoise.problems.nesting import ByTask, moved, nested, tensors


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
        targets = {name: y for name, y in self.targets.items() if name in names}
        if not isinstance(self.inputs, ByTask):
            return Batch(self.inputs, targets, self.size)
        inputs = ByTask({name: x for name, x in self.inputs.items() if name in names})
        rows = [next((len(t) for t in tensors(y) if t.ndim), 0) for y in targets.values()]
        return Batch(inputs, targets, sum(rows))


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
        ValueError: they differ in their number of rows, there is none, or something is no tensor.
    """

    def __init__(self, inputs: Any, targets: Mapping[str, Any]) -> None:
        self.inputs = inputs
        self.targets = targets
        if not isinstance(targets, Mapping):
            raise ValueError(
                f"targets is a {type(targets).__name__}; give a mapping from task name to targets"
            )
        _refuse_arrays("inputs", inputs)
        for task, target in targets.items():
            _refuse_arrays(f"targets of {task!r}", target)
        rows = [len(t) for t in tensors(inputs)]
        if not rows:
            raise ValueError("there is no tensor among the inputs; use Loader for other data")
        if rows[0] == 0:
            raise ValueError("there are no rows: the first tensor among the inputs is empty")
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

    def divided(
        self, validation: float = 0.2, test: float = 0.2, seed: int = 0
    ) -> Callable[[str], Tensors]:
        """A function from the name of a split to its rows, divided at random but always alike.

        Args:
            validation: share of the rows for validation.
            test: share of the rows for the test.
            seed: of the division.

        Raises:
            ValueError: a split would have no row.
        """
        order = torch.randperm(self._rows, generator=torch.Generator().manual_seed(seed))
        sizes = {"validation": int(validation * self._rows), "test": int(test * self._rows)}
        sizes["train"] = self._rows - sum(sizes.values())
        if min(sizes.values()) < 1:
            raise ValueError(
                f"{self._rows} rows with validation={validation} and test={test} leave a split without any: "
                f"{sizes}"
            )
        index = dict(zip(sizes, torch.split(order, list(sizes.values())), strict=True))

        def data(split: str) -> Tensors:
            rows = self.take(index[split])
            return Tensors(rows.inputs, rows.targets)

        return data

    def to(self, device: str) -> Tensors:
        """The same examples on another device."""
        return Tensors(moved(self.inputs, device), moved(self.targets, device))


def _refuse_arrays(what: str, value: Any) -> None:
    def refuse(leaf: Any) -> Any:
        if hasattr(leaf, "__array__"):
            raise ValueError(
                f"{what}: there is an array ({type(leaf).__name__}) among them; make it a tensor with "
                "torch.as_tensor()"
            )
        return leaf

    nested(lambda tensor: tensor, value, refuse)


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

    @classmethod
    def over(cls, dataset: Any, **options: Any) -> Loader:
        """Examples of a dataset with a length, through torch's ``DataLoader``.

        Args:
            dataset: as torch's loader takes it.
            options: of the loader, such as ``collate_fn``, which makes a pair of inputs and targets by
                task; batch size, order and seed are those of the study.
        """

        def make(size: int, seed: int | None) -> Iterable[Any]:
            if seed is None:
                return DataLoader(dataset, size, **options)
            return DataLoader(
                dataset,
                min(size, len(dataset)),
                shuffle=True,
                drop_last=True,
                generator=torch.Generator().manual_seed(seed),
                **options,
            )

        return cls(make, rows=len(dataset))

    def __len__(self) -> int:
        return self.rows

    def steps(self, size: int) -> int:
        """See :meth:`Source.steps`."""
        made: Any = self.make(size, 0)
        return len(made) if hasattr(made, "__len__") else max(self.rows // size, 1)

    def batches(self, size: int, seed: int | None) -> Iterator[Batch]:
        """See :meth:`Source.batches`.

        Raises:
            ValueError: the iterable gives something else.
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
    raise ValueError(
        f"the loader gave a {type(item).__name__}; let it give a Batch(inputs, targets, size), or a pair of "
        "inputs and a mapping from task to targets"
    )
