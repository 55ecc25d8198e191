"""Hard parameter sharing: one trunk, one head a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from equipoise.nn.trunk import Share, Trunk


class TrunkAndHeads(nn.Module):
    """Hard parameter sharing: one trunk, one head a task.

    Args:
        trunk: maps inputs ``Tensor[B, ...]`` to features ``Tensor[B, F]``.
        heads: by task name, maps features to outputs.
    """

    def __init__(self, trunk: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(heads)

    @classmethod
    def over(cls, trunk: Trunk, heads: Mapping[str, nn.Module]) -> TrunkAndHeads:
        """The network over a trunk that is made from stages."""
        return cls(trunk.build(), heads)

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
        features = self.trunk(inputs)
        if share is None:
            wanted = self.heads if tasks is None else tasks
            return {task: self.heads[task](features) for task in wanted}
        views = share(features)
        named = views if isinstance(views, Mapping) else dict(zip(self.heads, views, strict=True))
        return {task: head(named[task]) for task, head in self.heads.items()}
