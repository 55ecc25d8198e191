"""Hard parameter sharing: one trunk, one head a task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from equipoise.nn.multitask import MultiTask, Part
from equipoise.nn.trunk import Share, Trunk


class TrunkAndHeads(MultiTask):
    """Hard parameter sharing: one trunk, one head a task.

    Args:
        trunk: maps inputs ``Tensor[B, ...]`` to features ``Tensor[B, F]``.
        heads: by task name, maps features to outputs.

    References:
        Caruana, *Multitask Learning*, Machine Learning 28, 1997.
    """

    def __init__(self, trunk: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__(heads)
        self.trunk = trunk

    @classmethod
    def over(cls, trunk: Trunk, heads: Mapping[str, nn.Module]) -> TrunkAndHeads:
        """The network over a trunk that is made from stages."""
        return cls(trunk.build(), heads)

    def reached(self, task: str) -> Iterable[Part]:
        """See :meth:`MultiTask.reached`."""
        return [self.trunk, self.heads[task]]

    def forward(
        self, inputs: Any, share: Share | None = None, tasks: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Outputs by task.

        Args:
            inputs: what the trunk takes.
            share: splits the features into a view for each task, by name or in the order of the heads
                (``balancer.share``); None gives every head the features themselves.
            tasks: whose heads are to be read; None for all.
        """
        return self.read(self.views(self.trunk(inputs), share, self.wanted(tasks)))
