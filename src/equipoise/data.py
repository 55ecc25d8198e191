r"""Task sampling: how often each task is trained, instead of how much its loss weighs.

Drawing task k with the share :math:`p_k \propto s_k^{1 / \tau}`, where :math:`s_k` is the size of
its data, is in expectation the same as weighting its loss by :math:`p_k`, but the noise of the
gradients and the state of the optimiser differ.

References:
    Xin et al., *Do Current Multi-Task Optimization Methods in Deep Learning Even Help?*, NeurIPS
    2022, arXiv:2209.11379, who weight translation tasks by sampling.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Sampler

Batch = TypeVar("Batch")


def proportions(sizes: Mapping[str, float], temperature: float = 1.0) -> dict[str, float]:
    r"""The share of each task, :math:`p_k = s_k^{1 / \tau} / \sum_j s_j^{1 / \tau}`.

    Args:
        sizes: :math:`s_k` by task: the number of examples, or any wanted proportion.
        temperature: :math:`\tau > 0`; 1 is proportional to the sizes, ``float("inf")`` uniform.

    Raises:
        ValueError: there is no task, a size or the temperature is not positive.
    """
    if not sizes:
        raise ValueError("task sampling needs at least one task; got none")
    if not temperature > 0:
        raise ValueError(f"the temperature of task sampling must be above 0; got {temperature}")
    for task, size in sizes.items():
        if not 0 < size < float("inf"):
            raise ValueError(f"task '{task}' has the size {size}; give a positive number")
    logs = torch.tensor(list(sizes.values()), dtype=torch.float64).log() / temperature
    return dict(zip(sizes, logs.softmax(0).tolist(), strict=True))


class _Draws:
    """A generator and how many batches it has served, saved and restored together."""

    def __init__(self, shares: Mapping[str, float], batches: int, seed: int | None) -> None:
        if batches < 1:
            raise ValueError(f"a sampler needs at least one batch; got {batches}")
        self.shares = dict(shares)
        self.batches = batches
        self.served = 0
        self.generator = torch.Generator().manual_seed(
            torch.initial_seed() if seed is None else seed
        )
        self._probabilities = torch.tensor(list(self.shares.values()), dtype=torch.float64)

    def __len__(self) -> int:
        return self.batches

    def draw(self, count: int) -> Tensor:
        """Numbers of ``count`` tasks, ``Tensor[count]``."""
        return torch.multinomial(
            self._probabilities, count, replacement=True, generator=self.generator
        )

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to draw on as if it had not stopped."""
        return {
            "tasks": list(self.shares),
            "served": self.served,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a saved state.

        Raises:
            ValueError: the state belongs to other tasks.
        """
        if state["tasks"] != list(self.shares):
            raise ValueError(
                f"the saved sampler draws from {state['tasks']}, this one from "
                f"{list(self.shares)}; build it with the same tasks in the same order"
            )
        self.served = int(state["served"])
        self.generator.set_state(state["generator"].cpu())


class TaskSampler(_Draws):
    """Which task is trained in each step.

    .. code-block:: python

        sampler = TaskSampler({"fr": 40_000_000, "ro": 600_000}, batches=1000, temperature=5)
        for task, batch in sampler.over({"fr": fr_loader, "ro": ro_loader}):
            ...

    Iterating again draws another ``batches`` names. After :meth:`load_state_dict` the first
    iteration serves what was left.

    Args:
        sizes: number of examples by task, or any wanted proportion.
        batches: how many are drawn in one iteration.
        temperature: see :func:`proportions`.
        seed: where the draws start; None takes torch's seed.

    Raises:
        ValueError: there is no task, or a number is not positive.
    """

    def __init__(
        self,
        sizes: Mapping[str, float],
        batches: int,
        temperature: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__(proportions(sizes, temperature), batches, seed)

    def __iter__(self) -> Iterator[str]:
        names = list(self.shares)
        while self.served < self.batches:
            self.served += 1
            yield names[int(self.draw(1))]
        self.served = 0

    def over(self, loaders: Mapping[str, Iterable[Batch]]) -> Iterator[tuple[str, Batch]]:
        """Task and batch of each step; a loader that ends begins again.

        Args:
            loaders: by task; where a loader stands in its data is not part of the sampler's state.

        Raises:
            ValueError: a task has no loader, or an empty one.
        """
        missing = [task for task in self.shares if task not in loaders]
        if missing:
            raise ValueError(f"no loader for {missing}; there are {list(loaders)}")
        running = {task: _cycle(task, loaders[task]) for task in self.shares}
        for task in self:
            yield task, next(running[task])


def _cycle(task: str, loader: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise ValueError(f"the loader of task '{task}' is empty")


class MixedBatchSampler(_Draws, Sampler[list[int]]):
    """Batches that hold examples of all tasks in their shares, for a ``ConcatDataset``.

    .. code-block:: python

        data = ConcatDataset([fr_data, ro_data])
        sampler = MixedBatchSampler([len(fr_data), len(ro_data)], batch_size=64, batches=1000)
        loader = DataLoader(data, batch_sampler=sampler)

    Within a task the examples come without replacement, in a new order after each pass. A loader
    with workers reads ahead of the training loop, and so does the saved state then: save it between
    iterations, or use no workers.

    Args:
        sizes: number of examples of each part of the ``ConcatDataset``.
        batch_size: examples in a batch.
        batches: how many batches one iteration has.
        temperature: see :func:`proportions`.
        seed: where the draws start; None takes torch's seed.

    Raises:
        ValueError: there is no part, or a number is not positive.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        batch_size: int,
        batches: int,
        temperature: float = 1.0,
        seed: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"a batch needs at least one example; got batch_size {batch_size}")
        by_name = {f"part {i} of {size} examples": size for i, size in enumerate(sizes)}
        _Draws.__init__(self, proportions(by_name, temperature), batches, seed)
        self.sizes = list(sizes)
        self.batch_size = batch_size
        self._starts = torch.tensor([0, *self.sizes]).cumsum(0).tolist()
        # Of each part's pass: the seed of its order and how many examples it has served. The order
        # itself stays out of the state, where a large data set would make it large too.
        self._passes = [[0, size] for size in self.sizes]
        self._orders: list[Tensor | None] = [None] * len(self.sizes)

    def __iter__(self) -> Iterator[list[int]]:
        while self.served < self.batches:
            self.served += 1
            yield [self._next(part) for part in self.draw(self.batch_size).tolist()]
        self.served = 0

    def _next(self, part: int) -> int:
        seed, served = self._passes[part]
        if served == self.sizes[part]:
            seed, served = int(torch.randint(2**62, (), generator=self.generator)), 0
            self._orders[part] = None
        order = self._orders[part]
        if order is None:
            generator = torch.Generator().manual_seed(seed)
            order = self._orders[part] = torch.randperm(self.sizes[part], generator=generator)
        self._passes[part] = [seed, served + 1]
        return int(self._starts[part] + order[served])

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`TaskSampler.state_dict`; also where each part's pass stands."""
        return {**super().state_dict(), "passes": [list(each) for each in self._passes]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :meth:`TaskSampler.load_state_dict`."""
        super().load_state_dict(state)
        self._passes = [list(each) for each in state["passes"]]
        self._orders = [None] * len(self.sizes)
