"""What a problem is: tasks, data in three splits, and a builder of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

SplitName = Literal["train", "validation", "test"]
Share = Callable[[Tensor], Mapping[str, Tensor] | Sequence[Tensor]]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How well a task is solved, as people report it.

    Attributes:
        name: such as ``"accuracy"``.
        score: function of outputs ``Tensor[N, ...]`` and targets ``Tensor[N, ...]`` of a whole split.
        higher_is_better: the direction.
        unit: shown behind the number, such as ``"%"``; empty where there is none.
    """

    name: str
    score: Callable[[Tensor, Tensor], float]
    higher_is_better: bool
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of a problem.

    Attributes:
        name: as it appears in tables.
        loss: differentiable function of outputs ``Tensor[B, ...]`` and targets ``Tensor[B, ...]`` that
            returns the mean over the batch, ``Tensor[]``.
        metrics: at least one; the first decides the learning rate of the single-task reference.
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    metrics: tuple[Metric, ...]

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError(
                f"task {self.name!r} has no metric; give it at least one, to be compared by"
            )


@dataclass(frozen=True)
class Split:
    """Inputs ``Tensor[N, ...]`` and, for each task, targets ``Tensor[N, ...]``."""

    inputs: Tensor
    targets: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for task, target in self.targets.items():
            if len(target) != len(self.inputs):
                raise ValueError(
                    f"targets of {task!r} have {len(target)} rows but there are {len(self.inputs)} inputs"
                )

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, index: Tensor | slice) -> Split:
        """The rows ``index``."""
        return Split(self.inputs[index], {task: y[index] for task, y in self.targets.items()})

    def to(self, device: str) -> Split:
        """The same rows on another device."""
        return Split(
            self.inputs.to(device), {task: y.to(device) for task, y in self.targets.items()}
        )


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A multi-task problem.

    A problem of your own is a function that returns one of these; name it in a study as
    ``"package.module:function"`` or ``"path/to/file.py:function"``. Options of the study are passed to
    the function by name.

    Attributes:
        name: as it appears in the report.
        tasks: at least two, with different names.
        split: function from ``"train"``, ``"validation"`` or ``"test"`` to the data. It is called for
            ``"test"`` only by final trials, once, after training.
        model: function from task names to a fresh ``nn.Module`` that maps inputs to a mapping from task
            name to outputs, such as :class:`TrunkAndHeads`. One task alone must work: it is the
            single-task reference.
        about: a sentence or two on what the problem is.
        cite: where it comes from.
    """

    name: str
    tasks: tuple[Task, ...]
    split: Callable[[SplitName], Split]
    model: Callable[[Sequence[str]], nn.Module]
    about: str = ""
    cite: str = ""
    by_name: Mapping[str, Task] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        if len(names) < 2 or len(set(names)) != len(names):
            raise ValueError(
                f"problem {self.name!r} needs two tasks or more with different names, not {names}"
            )
        object.__setattr__(self, "by_name", {task.name: task for task in self.tasks})


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

    def forward(self, inputs: Tensor, share: Share | None = None) -> dict[str, Tensor]:
        """Outputs by task.

        Args:
            inputs: ``Tensor[B, ...]``.
            share: splits the features into a view for each task, by name or in the order of the heads
                (``balancer.share``); None gives every head the features themselves.
        """
        features = self.trunk(inputs)
        if share is None:
            return {task: head(features) for task, head in self.heads.items()}
        views = share(features)
        named = views if isinstance(views, Mapping) else dict(zip(self.heads, views, strict=True))
        return {task: head(named[task]) for task, head in self.heads.items()}
