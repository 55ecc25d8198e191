"""What a problem is: tasks, data in three splits, and a builder of models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from equipoise.problems.data import Batch, ByTask, Source, nested, tensors

SplitName = Literal["train", "validation", "test"]
Share: TypeAlias = Callable[[Any], Mapping[str, Any] | Sequence[Any]]
Losses: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How well a task is solved, as people report it.

    Attributes:
        name: such as ``"accuracy"``.
        score: function of outputs ``Tensor[N, ...]`` and targets ``Tensor[N, ...]`` of a whole split; or an
            object with ``reset``, ``update(outputs, targets)`` and ``compute``, such as a metric of
            torchmetrics, which sees the split batch by batch. A metric of the whole problem gets mappings
            by task.
        higher_is_better: the direction.
        unit: shown behind the number, such as ``"%"``; empty where there is none.
    """

    name: str
    score: Any
    higher_is_better: bool
    unit: str = ""

    @property
    def streams(self) -> bool:
        """Whether it sees a split batch by batch."""
        return hasattr(self.score, "update") and hasattr(self.score, "compute")


# How a task's targets say that a label is missing.
Missing: TypeAlias = Callable[[Any], Tensor] | float | None


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of a problem.

    Attributes:
        name: as it appears in tables.
        loss: differentiable function of outputs ``Tensor[B, ...]`` and targets ``Tensor[B, ...]`` that
            returns the mean over the batch, ``Tensor[]``.
        metrics: at least one; the first decides the learning rate of the single-task reference.
        missing: the value that stands for no label (``float("nan")``, -1), or a function from targets to
            ``Tensor[B]`` of booleans, true where there is none. Rows without a label are left out of loss
            and metrics, and a batch without any label leaves out the task.
    """

    name: str
    loss: Callable[[Any, Any], Tensor]
    metrics: tuple[Metric, ...]
    missing: Missing = None

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError(
                f"task {self.name!r} has no metric; give it at least one, to be compared by"
            )

    def labelled(self, outputs: Any, targets: Any) -> tuple[Any, Any, int] | None:
        """The rows that have a label, and their number; None where none has."""
        rows = next((len(t) for t in tensors(targets) if t.ndim), 1)
        if self.missing is None:
            return (outputs, targets, rows) if rows else None
        if callable(self.missing):
            gone = self.missing(targets)
        else:
            gone = targets.isnan() if self.missing != self.missing else targets == self.missing
        gone = gone.flatten(1).any(1) if gone.ndim > 1 else gone
        if not bool(gone.any()):
            return outputs, targets, rows
        if bool(gone.all()):
            return None
        there = ~gone
        kept = [nested(lambda t: t[there.to(t.device)], x) for x in (outputs, targets)]
        return kept[0], kept[1], int(there.sum())


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A multi-task problem.

    A problem of your own is a function that returns one of these; name it in a study as
    ``"package.module:function"`` or ``"path/to/file.py:function"``. Options of the study are passed to
    the function by name.

    Attributes:
        name: as it appears in the report.
        tasks: at least two, with different names.
        data: function from ``"train"``, ``"validation"`` or ``"test"`` to a :class:`Source` of that split. It
            is called for ``"test"`` only by final trials, once, after training.
        model: function from task names to a fresh ``nn.Module`` that maps inputs to a mapping from task
            name to outputs, such as :class:`TrunkAndHeads`. One task alone must work: it is the
            single-task reference.
        losses: where the usual way will not do, a function of model, batch and ``share`` (None, or
            ``balancer.share``) that returns the losses by task; tasks without labels are left out.
        metrics: of several tasks together; shown, and not part of Delta_m.
        about: a sentence or two on what the problem is.
        cite: where it comes from.
    """

    name: str
    tasks: tuple[Task, ...]
    data: Callable[[SplitName], Source]
    model: Callable[[Sequence[str]], nn.Module]
    losses: Callable[[nn.Module, Batch, Share | None], Losses] | None = None
    metrics: tuple[Metric, ...] = ()
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

    def losses_of(self, model: nn.Module, batch: Batch, share: Share | None = None) -> Losses:
        """The losses of the tasks that have labels in the batch.

        Raises:
            ValueError: the model gives no output for a task that has.
        """
        if self.losses is not None:
            return self.losses(model, batch, share)
        outputs = outputs_of(model, batch, share)
        found = {}
        for task in self.tasks:
            if task.name not in batch.targets:
                continue
            if task.name not in outputs:
                raise ValueError(
                    f"the model of problem {self.name!r} gave no output for task {task.name!r}; it gave: "
                    f"{', '.join(outputs)}"
                )
            there = task.labelled(outputs[task.name], batch.targets[task.name])
            if there is not None:
                found[task.name] = task.loss(there[0], there[1])
        return found


def outputs_of(model: nn.Module, batch: Batch, share: Share | None = None) -> Mapping[str, Any]:
    """The model's outputs by task.

    Inputs of each task's own are passed one after the other, with ``tasks=[name]`` where the model takes it.

    Raises:
        ValueError: the features of tasks with inputs of their own cannot be shared out.
    """
    if not isinstance(batch.inputs, ByTask):
        found: Mapping[str, Any] = (
            model(batch.inputs) if share is None else model(batch.inputs, share=share)
        )
        return found
    if share is not None:
        raise ValueError(
            "tasks with inputs of their own have no features in common; use the parameters route"
        )
    takes = "tasks" in inspect.signature(model.forward).parameters
    out = {}
    for name, inputs in batch.inputs.items():
        out[name] = (model(inputs, tasks=[name]) if takes else model(inputs))[name]
    return out


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
