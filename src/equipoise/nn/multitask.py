"""What the architectures have in common: heads by task, views of shared features, and who reaches what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

from equipoise.nn.batched_heads import BatchedHeads
from equipoise.nn.stages import by_task
from equipoise.nn.trunk import Share

Part: TypeAlias = "nn.Module | nn.Parameter"


class MultiTask(nn.Module):
    """A network with a head for each task.

    A subclass defines ``forward(inputs, share=None, tasks=None)``, which returns outputs by task, and
    :meth:`reached`.

    Args:
        heads: by task, from features to outputs; :class:`BatchedHeads` are computed as one.

    Raises:
        ValueError: there is no head, or a task has a name that torch cannot store a module under.
    """

    def __init__(self, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        if not len(heads):
            raise ValueError("a multi-task network needs a head for one task or more")
        self.heads = heads if isinstance(heads, BatchedHeads) else by_task(heads)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(self.heads)

    def reached(self, task: str) -> Iterable[Part]:
        """The modules and parameters that the output of a task depends on."""
        raise NotImplementedError

    def shared_parameters(self) -> list[nn.Parameter]:
        """The trainable parameters that two tasks or more reach, in the order of ``parameters()``.

        They are those that a ``Balancer`` finds by itself. A network for one task has none.
        """
        counts: dict[nn.Parameter, int] = {}
        for task in self.tasks:
            for parameter in _parameters(self.reached(task)):
                counts[parameter] = counts.get(parameter, 0) + 1
        return [p for p in self.parameters() if p.requires_grad and counts.get(p, 0) > 1]

    def wanted(self, tasks: Sequence[str] | None) -> list[str]:
        """The tasks asked for; None for all.

        Raises:
            ValueError: there is no such task.
        """
        if tasks is None:
            return list(self.tasks)
        unknown = [task for task in tasks if task not in self.heads]
        if unknown:
            raise ValueError(
                f"the network has no task {unknown[0]!r}; it has: {', '.join(self.tasks)}"
            )
        return list(tasks)

    def views(self, features: Any, share: Share | None, tasks: Sequence[str]) -> dict[str, Any]:
        """For each of some tasks, its view of the features that all tasks read.

        Args:
            features: a tensor, or a tuple or mapping of tensors. Of those, what has no graph, such as a mask,
                is given to every task as it is.
            share: hands out the views; None gives every task the features themselves.
            tasks: who gets one.

        Raises:
            ValueError: ``share`` does not give a view to every task.
        """
        if share is None:
            return dict.fromkeys(tasks, features)
        apart = _apart(features)
        if apart is not None:
            views = self.views(apart, share, tasks)
            return {task: _together(features, view) for task, view in views.items()}
        given = share(features)
        if not isinstance(given, Mapping):
            if len(given) != len(self.heads):
                raise ValueError(
                    f"share gave {len(given)} views, and the network has {len(self.heads)} tasks: "
                    f"{', '.join(self.tasks)}"
                )
            given = dict(zip(self.heads, given, strict=True))
        missing = [task for task in tasks if task not in given]
        if missing:
            raise ValueError(
                f"share gave no view for task {missing[0]!r}, only for {', '.join(map(str, given))}; name "
                "the balancer's tasks as the heads are named"
            )
        return {task: given[task] for task in tasks}

    def read(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of the heads, by task.

        Args:
            features: what the head of each task wanted reads.
        """
        if isinstance(self.heads, BatchedHeads):
            outputs: dict[str, Any] = self.heads(features)
            return outputs
        return {task: self.heads[task](z) for task, z in features.items()}


def refuse_share(share: Share | None, why: str) -> None:
    """Raises where the features route has nothing to take hold of.

    Raises:
        ValueError: ``share`` was given.
    """
    if share is not None:
        raise ValueError(
            f"{why}, so there are no features to share; leave share out and balance with "
            "route='parameters', which finds the shared parameters by itself"
        )


def _parameters(parts: Iterable[Part]) -> set[nn.Parameter]:
    found: set[nn.Parameter] = set()
    for part in parts:
        found.update(part.parameters() if isinstance(part, nn.Module) else [part])
    return found


def _apart(features: Any) -> dict[Any, Any] | None:
    """The entries with a graph, where a tuple or mapping has others beside them."""
    if not isinstance(features, tuple | list | Mapping):
        return None
    entries = features if isinstance(features, Mapping) else dict(enumerate(features))
    found = {
        key: entry
        for key, entry in entries.items()
        if isinstance(entry, Tensor) and entry.requires_grad
    }
    return found if 0 < len(found) < len(entries) else None


def _together(features: Any, view: Mapping[Any, Any]) -> Any:
    """The features with some entries replaced."""
    if isinstance(features, Mapping):
        return {**features, **view}
    return tuple(view.get(place, entry) for place, entry in enumerate(features))
