"""PLE: CGC in several levels, one a stage of the trunk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.nn.experts import Experts, Gate, Looks, Source, at_least, mixed
from equipoise.nn.multitask import MultiTask, Part, refuse_share
from equipoise.nn.stages import by_task, copies, rejoined
from equipoise.nn.trunk import Share, Trunk


class PLE(MultiTask):
    r"""Progressive layered extraction: experts of level j are copies of stage j.

    In each level a task mixes the shared experts and its own, as in CGC. Below the last level a shared
    gate mixes the experts of all tasks and the shared ones; the shared experts of the next level read
    that. So a task's experts below the last level are reached by all tasks.

    In the paper gates look at what their level is given: that is ``gate="input"``, which needs the size of
    the flattened input. By default they look at the mean of what their own experts return.

    Args:
        trunk: its stages are the levels.
        heads: by task.
        shared: experts of all tasks in each level.
        own: experts of each task in each level.
        gate: what gates look at: ``"experts"``, ``"input"``, or ``"static"`` (nothing).
        inputs: size of the flattened input, for ``gate="input"``; higher levels look at the mean over
            space or tokens of what they are given.

    Raises:
        ValueError: an option is out of its range, or ``inputs`` is missing.

    References:
        Tang et al., *Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for
        Personalized Recommendations*, RecSys 2020, doi:10.1145/3383313.3412236 (not on arXiv).
    """

    def __init__(
        self,
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        *,
        shared: int = 1,
        own: int = 1,
        gate: Source = "experts",
        inputs: int | None = None,
    ) -> None:
        super().__init__(heads)
        at_least(shared=(shared, 1), own=(own, 1))
        made = copies(trunk, shared + own * len(self.heads))
        sizes = [None, *trunk.channels[:-1]]
        count = len(trunk.channels)
        self.levels = nn.ModuleList(
            Level(
                [stages[j] for stages in made],
                list(self.heads),
                shared,
                Looks(gate, inputs, channels, sizes[j]),
                last=j == count - 1,
            )
            for j, channels in enumerate(trunk.channels)
        )

    @classmethod
    def over(
        cls,
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        *,
        shared: int = 1,
        own: int = 1,
        gate: Source = "experts",
        inputs: int | None = None,
    ) -> PLE:
        """The network over a trunk; the options are those of the class."""
        return cls(trunk, heads, shared=shared, own=own, gate=gate, inputs=inputs)

    def reached(self, task: str) -> Iterable[Part]:
        """See :meth:`MultiTask.reached`."""
        yield self.heads[task]
        last = len(self.levels) - 1
        for j, level in enumerate(self.levels):
            assert isinstance(level, Level)
            yield level.shared
            if level.gate is not None:
                yield level.gate
            for other in self.tasks:
                # A shared gate above reads the other tasks' experts, and theirs what their gates mixed.
                if other == task or j < last:
                    yield level.own[other]
                if other == task or j < last - 1:
                    yield level.gates[other]

    def forward(
        self, inputs: Any, share: Share | None = None, tasks: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Outputs by task.

        Args:
            inputs: what the first stage takes.
            share: has to be None.
            tasks: whose outputs are wanted; None for all. In the last level only their experts are computed.

        Raises:
            ValueError: ``share`` was given.
        """
        refuse_share(share, "the tasks of PLE read experts of several levels")
        wanted = self.wanted(tasks)
        last = len(self.levels) - 1
        common: Any = inputs
        given: dict[str, Any] = dict.fromkeys(self.tasks if last else wanted, inputs)
        for j, level in enumerate(self.levels):
            reading = self.tasks if j < last - 1 else wanted
            common, given = level(common, given, reading)
        return self.read({task: given[task] for task in wanted})


class Level(nn.Module):
    """One level: shared experts, experts of each task, and gates over them.

    Args:
        experts: the shared ones, then those of the first task, of the second, and so on.
        tasks: their names.
        shared: how many are shared.
        looks: what the gates look at.
        last: whether this is the last level, which has no shared gate.
    """

    def __init__(
        self,
        experts: Sequence[nn.Module],
        tasks: Sequence[str],
        shared: int,
        looks: Looks,
        *,
        last: bool,
    ) -> None:
        super().__init__()
        own = (len(experts) - shared) // len(tasks)
        self.looks = looks
        self.shared = Experts(experts[:shared])
        groups = [Experts(experts[at : at + own]) for at in range(shared, len(experts), own)]
        self.own = by_task(dict(zip(tasks, groups, strict=True)))
        self.gates = by_task({task: Gate(shared + own, looks.size) for task in tasks})
        self.gate = None if last else Gate(len(experts), looks.size)

    def forward(
        self, common: Any, given: Mapping[str, Any], tasks: Sequence[str]
    ) -> tuple[Any, dict[str, Any]]:
        """What the shared experts and those of some tasks are given in the next level.

        Args:
            common: what the shared experts are given here.
            given: what the experts of each task are given here.
            tasks: whose gates are wanted.
        """
        outputs, whole = self.shared.outputs(common)
        shared = torch.stack(outputs, 1)
        modules: Any = self.own
        found = {task: modules[task].outputs(z) for task, z in given.items()}
        own = {task: torch.stack(outputs, 1) for task, (outputs, _) in found.items()}
        mixtures = {}
        for task in tasks:
            every = torch.cat([shared, own[task]], 1)
            mixtures[task] = self._mixed(self.gates[task], every, given[task], found[task][1])
        if self.gate is not None:
            common = self._mixed(self.gate, torch.cat([shared, *own.values()], 1), common, whole)
        return common, mixtures

    def _mixed(self, gate: nn.Module, stacked: Tensor, below: Any, whole: Any) -> Any:
        weights: Tensor = gate(self.looks.vector(stacked, below))
        return rejoined(mixed(stacked, weights), whole)
