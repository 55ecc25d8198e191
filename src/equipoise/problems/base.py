"""What a problem is: tasks, data in three splits, and a builder of models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from equipoise.nn import Share
from equipoise.problems.data import Batch, Source
from equipoise.problems.nesting import ByTask, shapes, told
from equipoise.problems.per_task import PerTask
from equipoise.problems.tasks import Metric, Task

SplitName = Literal["train", "validation", "test"]
Losses: TypeAlias = Mapping[str, Tensor]


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
            is called for ``"test"`` once in a trial, after training; a trial by which settings are chosen
            before the comparison never asks for it.
        model: function from task names to a fresh ``nn.Module`` that maps inputs to a mapping from task
            name to outputs, such as :class:`TrunkAndHeads`. One task alone must work: it is the
            single-task reference.
        losses: where the usual way will not do, a function of model, batch and ``share`` (None, or
            ``balancer.share``) that returns the losses by task; tasks without labels are left out.
        metrics: of several tasks together; shown, and not part of Delta_m.
        piece: how many examples at a time go through the network when a split is scored.
        about: a sentence or two on what the problem is.
        cite: where it comes from.
    """

    name: str
    tasks: tuple[Task, ...]
    data: Callable[[SplitName], Source]
    model: Callable[[Sequence[str]], nn.Module]
    losses: Callable[[nn.Module, Batch, Share | None], Losses] | None = None
    metrics: tuple[Metric, ...] = ()
    piece: int = 1024
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

    def only(self, names: Sequence[str] | None) -> Problem:
        """The problem with some of its tasks, in its own order; None for all.

        Raises:
            ValueError: there is no such task, or fewer than two are left.
        """
        if names is None:
            return self
        unknown = [name for name in names if name not in self.by_name]
        if unknown:
            raise ValueError(
                f"problem {self.name!r} has no task {unknown[0]!r}; it has: {', '.join(self.by_name)}"
            )
        chosen = tuple(task for task in self.tasks if task.name in names)
        if len(chosen) < 2:
            raise ValueError(
                f"problem {self.name!r} needs two tasks or more, not {list(names)} alone; a network for each "
                "task is trained for comparison anyway"
            )
        return replace(self, tasks=chosen)

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
            there = task.labelled(output_of(outputs, task.name), batch.targets[task.name])
            if there is not None:
                found[task.name] = task.loss_of(there[0], there[1])
        return found

    def source(self, split: SplitName) -> Source:
        """The data of a split, checked.

        Raises:
            ValueError: it is no source.
        """
        found: Any = self.data(split)
        if isinstance(found, PerTask) and set(found.sources) - set(self.by_name):
            # Tasks that were left out have no part in how many steps there are and how large.
            found = found.only(self.by_name)
        if all(hasattr(found, name) for name in ("__len__", "steps", "batches")):
            return found  # type: ignore[no-any-return]
        raise ValueError(
            f"data({split!r}) of problem {self.name!r} returned a {type(found).__name__}; return "
            "Tensors(inputs, targets), a Loader or a PerTask"
        )

    def network(self, names: Sequence[str]) -> nn.Module:
        """A fresh network, checked.

        Raises:
            ValueError: it is none.
        """
        found: Any = self.model(names)
        if isinstance(found, nn.Module):
            return found
        raise ValueError(
            f"model({list(names)}) of problem {self.name!r} returned a {type(found).__name__}; return a "
            "torch.nn.Module"
        )


def outputs_of(model: nn.Module, batch: Batch, share: Share | None = None) -> Mapping[str, Any]:
    """The model's outputs by task.

    Inputs of each task's own are passed one after the other, with ``tasks=[name]`` where the model takes it.

    Raises:
        ValueError: the features of tasks with inputs of their own cannot be shared out, or the model gives
            something else.
    """
    if not isinstance(batch.inputs, ByTask):
        shared: dict[str, Any] = {} if share is None else {"share": share}
        return _called(model, batch.inputs, **shared)
    if share is not None:
        raise ValueError(
            "tasks with inputs of their own have no features in common; use the parameters route"
        )
    takes = "tasks" in inspect.signature(model.forward).parameters
    out = {}
    for name, inputs in batch.inputs.items():
        options: dict[str, Any] = {"tasks": [name]} if takes else {}
        out[name] = output_of(_called(model, inputs, **options), name)
    return out


def output_of(outputs: Mapping[str, Any], name: str) -> Any:
    """The output for a task.

    Raises:
        ValueError: there is none.
    """
    if name not in outputs:
        raise ValueError(
            f"the model gave no output for task {name!r}; it gave: {', '.join(map(str, outputs))}"
        )
    return outputs[name]


def _called(model: nn.Module, inputs: Any, **options: Any) -> Mapping[str, Any]:
    try:
        outputs = model(inputs, **options)
    except (RuntimeError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"the model raised {told(error)} (inputs {shapes(inputs)})") from error
    if isinstance(outputs, Mapping):
        return outputs
    raise ValueError(
        f"the model returned {shapes(outputs)}; return a mapping from task name to output, as "
        "TrunkAndHeads does"
    )
