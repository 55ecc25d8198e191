"""Several data sets, one a task: which task a batch is of, which of its examples, and which of the losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate, cycle, islice
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Sampler

from equipoise.data import TaskSampler

# Under this name the inputs of a batch say which task it is of.
TASK = "task"

Sampling = float | Literal["round_robin"]
Loss = Callable[[Any, Mapping[str, Any]], Tensor]
LossesOf = Callable[[Any, Mapping[str, Any]], Mapping[str, Tensor | None]] | Mapping[str, Loss]


class TaskData(Dataset[tuple[str, Any]]):
    """Data sets one after the other, each example with the name of its task.

    Args:
        parts: data sets with a length, by task.

    Raises:
        ValueError: there is none, or one is empty.
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self.sizes = {task: len(part) for task, part in parts.items()}
        if not self.sizes:
            raise ValueError("there are no data sets; give one a task: {'nli': data, 'sts': data}")
        for task, size in self.sizes.items():
            if size == 0:
                raise ValueError(f"the data set of task '{task}' is empty")
        self._names = [task for task, size in self.sizes.items() for _ in range(size)]
        self._whole: ConcatDataset[Any] = ConcatDataset(list(parts.values()))

    def __len__(self) -> int:
        return len(self._whole)

    def __getitem__(self, index: int) -> tuple[str, Any]:
        return self._names[index], self._whole[index]


class TaskBatches(Sampler[list[int]]):
    """Batches of one task each, for :class:`TaskData`.

    Within a task the examples come without replacement, in a new order after each pass. The draws depend on
    the seed and the number of the epoch alone, so that a run that skips to where it was goes on as it would
    have.

    Args:
        sizes: number of examples by task, in the order of the data.
        batch_size: examples in a batch.
        sampling: the temperature of the draws (1: in proportion to the sizes, ``float("inf")``: evenly), or
            ``"round_robin"``: one task after the other.
        seed: of the draws.
        together: batches of the same task in succession: the number of processes that share a step.
        epoch: says which epoch begins.
        batches: in an epoch; None: as many as the data has.

    Raises:
        ValueError: a number is not positive, or ``sampling`` is unknown.
    """

    drop_last = False

    def __init__(
        self,
        sizes: Mapping[str, int],
        batch_size: int,
        sampling: Sampling = 1.0,
        *,
        seed: int = 0,
        together: int = 1,
        epoch: Callable[[], int] = lambda: 0,
        batches: int | None = None,
    ) -> None:
        if isinstance(sampling, str) and sampling != "round_robin":
            raise ValueError(
                f"sampling={sampling!r} is unknown; give a temperature, or 'round_robin'"
            )
        if batch_size < 1:
            raise ValueError(f"a batch needs at least one example; got batch_size {batch_size}")
        self.sizes = dict(sizes)
        self.batch_size = batch_size
        self.sampling = sampling
        self.seed = seed
        self.together = together
        self.epoch = epoch
        whole = (
            sum(-(-size // batch_size) for size in sizes.values()) if batches is None else batches
        )
        # Every process has as many batches as the others.
        self._steps = -(-whole // together)
        self._starts = dict(zip(self.sizes, accumulate(sizes.values(), initial=0), strict=False))

    def __len__(self) -> int:
        return self._steps * self.together

    def __iter__(self) -> Iterator[list[int]]:
        seed = self.seed + self.epoch()
        generator = torch.Generator().manual_seed(seed)
        streams = {task: self._examples(task, generator) for task in self.sizes}
        for task in islice(self._tasks(seed), self._steps):
            for _ in range(self.together):
                yield list(islice(streams[task], self.batch_size))

    def _tasks(self, seed: int) -> Iterator[str]:
        if self.sampling == "round_robin":
            return cycle(self.sizes)
        return iter(TaskSampler(self.sizes, self._steps, float(self.sampling), seed))

    def _examples(self, task: str, generator: torch.Generator) -> Iterator[int]:
        start = self._starts[task]
        while True:
            order = torch.randperm(self.sizes[task], generator=generator)
            yield from (start + order).tolist()


def named_losses(
    how: LossesOf | None, outputs: Any, inputs: Mapping[str, Any]
) -> Mapping[str, Tensor | None]:
    """The losses of a batch by task.

    Args:
        how: a function to all of them, or to one for each task; None: the outputs have them.
        outputs: of the model.
        inputs: of the batch, with its task where it is of one.
    """
    task = inputs.get(TASK)
    if isinstance(how, Mapping):
        chosen = how if task is None else {task: how[task]}
        return {name: loss(outputs, inputs) for name, loss in chosen.items()}
    if how is not None:
        return how(outputs, inputs)
    if task is not None and "losses" not in outputs:
        return {task: outputs["loss"]}
    found: Mapping[str, Tensor | None] = outputs["losses"]
    return found
