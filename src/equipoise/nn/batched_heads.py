"""Heads of the same shape, computed as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from equipoise.nn.stages import by_task


class BatchedHeads(nn.ModuleDict):
    """K heads of one structure, such as CelebA's 40 linear ones, computed as one batched module.

    Give it to an architecture in place of a mapping. Outputs and gradients are those of the separate heads,
    and so are parameters and ``state_dict``: these stay apart, and are stacked in each call. A pass forward
    or backward has fewer steps this way. The losses then meet in one node above the heads.

    Where the heads read the tasks' views of :meth:`equipoise.Balancer.share`, also with
    ``route="parameters"``, a ``Balancer`` sees by the graph whose parameters are whose, and goes backward
    through all heads once. Elsewhere it tells heads from the trunk by their gradients, which
    ``balancer.explain()`` says, and its parameters route goes through all heads once a task: there, separate
    heads are the faster ones. In ``ltb`` and ``dselect_k`` copies may have gradients of zero as well: name
    what is shared there, ``Balancer(..., shared=network.shared_parameters())``.

    Args:
        heads: by task, of the same class and with parameters of the same shapes.

    Raises:
        ValueError: two heads differ, or they have buffers (batch normalisation), which cannot be stacked.
    """

    def __init__(self, heads: Mapping[str, nn.Module]) -> None:
        super().__init__(dict(by_task(heads).items()))
        first = next(iter(heads.values()), None)
        if first is None:
            raise ValueError("BatchedHeads needs one head or more")
        for task, head in heads.items():
            if repr(head) != repr(first) or _shapes(head) != _shapes(first):
                raise ValueError(
                    f"the head of task {task!r} differs in structure from the first one, so they cannot be "
                    "computed as one; give the mapping of heads itself"
                )
            if next(head.buffers(), None) is not None:
                raise ValueError(
                    f"the head of task {task!r} has buffers (batch normalisation?), which cannot be stacked; "
                    "give the mapping of heads itself"
                )

    def forward(self, features: Mapping[str, Any] | Tensor) -> dict[str, Tensor]:
        """Outputs by task.

        Args:
            features: ``Tensor[B, ...]`` that all heads read, or by task what its head reads, of one shape.
        """
        if isinstance(features, Tensor):
            features = dict.fromkeys(self, features)
        tasks = list(features)
        given = list(features.values())
        if len(tasks) == 1:
            return {tasks[0]: self[tasks[0]](given[0])}
        alike = all(value is given[0] for value in given)
        if not alike and not all(isinstance(value, Tensor) for value in given):
            raise ValueError(
                "batched heads take one tensor a task, and these are nested; give the mapping of heads "
                "itself"
            )
        heads = [self[task] for task in tasks]
        parameters = [dict(head.named_parameters()) for head in heads]
        stacked = {name: torch.stack([own[name] for own in parameters]) for name in parameters[0]}

        def head(own: dict[str, Tensor], value: Any) -> Any:
            return functional_call(heads[0], own, (value,))

        read = given[0] if alike else _together(*given)
        batched: Any = torch.vmap(head, (0, None if alike else 0), randomness="different")
        outputs: Tensor = batched(stacked, read)
        if not isinstance(outputs, Tensor):
            raise ValueError(
                f"batched heads return one tensor each, and these a {type(outputs).__name__}; give the "
                "mapping of heads itself"
            )
        return dict(zip(tasks, outputs.unbind(0), strict=True))


class HeadsTogether(torch.autograd.Function):
    """What the heads read, stacked: ``Tensor[K, ...]``.

    By the name of its node a balancer sees that head k reads the k-th, and no other.
    """

    @staticmethod
    def forward(ctx: Any, *features: Tensor) -> Tensor:
        """The stack."""
        return torch.stack(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """What comes back to each."""
        return gradients[0].unbind(0)


_together: Any = HeadsTogether.apply


def _shapes(head: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in head.named_parameters()}
