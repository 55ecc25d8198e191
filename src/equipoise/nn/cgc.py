"""CGC: experts that all tasks share and experts of each task's own, and a gate for each task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.nn.experts import Experts, Gate, Looks, Source, at_least, divided, mixed
from equipoise.nn.multitask import MultiTask, Part
from equipoise.nn.stages import by_task, rejoined
from equipoise.nn.trunk import Share, Trunk


class CGC(MultiTask):
    r"""Customised gate control: a task mixes the shared experts and its own, and never another task's.

    .. math:: z_k(x) = \sum_{i} \operatorname{softmax}(W_k \, v(x))_i \; e_i(x), \quad
        e = (\text{shared}_1, \dots, \text{shared}_S, \text{own}^k_1, \dots, \text{own}^k_T)

    An expert is a copy of the trunk. In the paper :math:`v(x)` is the input, a vector: that is
    ``gate="input"``, which needs its size. By default it is the mean of what the gate's S + T experts return.

    Args:
        trunk: of which every expert is a copy.
        heads: by task.
        shared: number S of experts of all tasks.
        own: number T of experts of each task.
        gate: what gates look at: ``"experts"``, ``"input"``, or ``"static"`` (nothing).
        inputs: size of the flattened input, for ``gate="input"``.
        bottom: number of stages that come before the experts and exist once; ``gate="input"`` then looks
            at the mean over space of what these return.

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
        bottom: int = 0,
    ) -> None:
        super().__init__(heads)
        at_least(shared=(shared, 1), own=(own, 0))
        self._own = own
        tasks = list(self.heads)
        self.bottom, groups = divided(trunk, bottom, [shared, *[own] * len(tasks)])
        self.shared: Experts = groups[0]
        self.own = by_task(dict(zip(tasks, groups[1:], strict=True)))
        before = trunk.channels[bottom - 1] if bottom else None
        self.looks = Looks(gate, inputs, trunk.features, before)
        self.gates = by_task({task: Gate(shared + own, self.looks.size) for task in tasks})

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
        bottom: int = 0,
    ) -> CGC:
        """The network over a trunk; the options are those of the class."""
        return cls(trunk, heads, shared=shared, own=own, gate=gate, inputs=inputs, bottom=bottom)

    def reached(self, task: str) -> Iterable[Part]:
        """See :meth:`MultiTask.reached`."""
        return [self.bottom, self.shared, self.own[task], self.gates[task], self.heads[task]]

    def forward(
        self, inputs: Any, share: Share | None = None, tasks: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Outputs by task.

        Args:
            inputs: what the trunk takes.
            share: splits what the shared experts return, ``Tensor[B, S, ...]``, into a view for each task;
                with a trained bottom, a mapping of that (``"experts"``) and of what the bottom returns
                (``"below"``).
            tasks: whose outputs are wanted; None for all. Experts of other tasks are not computed.
        """
        below = self.bottom(inputs)
        outputs, whole = self.shared.outputs(below)
        views = self.looks.views(
            self, torch.stack(outputs, 1), below, share, self.wanted(tasks), own=self._own > 0
        )
        read = {}
        for task, (view, base) in views.items():
            experts: Any = self.own[task]
            own, _ = experts.outputs(base)
            every = torch.cat([view, torch.stack(own, 1)], 1) if own else view
            weights: Tensor = self.gates[task](self.looks.vector(every, base))
            read[task] = rejoined(mixed(every, weights), whole)
        return self.read(read)
