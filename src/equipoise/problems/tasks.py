"""What a task is: a loss, metrics, and how its targets say that a label is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from equipoise.problems.nesting import nested, shapes, tensors, told


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

    def __post_init__(self) -> None:
        if not (callable(self.score) or self.streams):
            raise ValueError(
                f"metric {self.name!r} has a {type(self.score).__name__} as its score; give a function of "
                "outputs and targets, or an object with update and compute"
            )

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
        missing: the value that stands for no label (``float("nan")``, -1, an index of padding), or a
            function from targets to ``Tensor[B]`` or ``Tensor[B, ...]`` of booleans, true where there is
            none. Such entries are left out of loss and metrics, and a batch without any label leaves out
            the task. Where a row has several labels, as a sentence has, outputs ``Tensor[B, T, ...]`` and
            targets ``Tensor[B, T]`` reach loss and metrics as the M that are there, ``Tensor[M, ...]``.
    """

    name: str
    loss: Callable[[Any, Any], Tensor]
    metrics: tuple[Metric, ...]
    missing: Missing = None

    def __post_init__(self) -> None:
        if isinstance(self.metrics, Metric):
            raise ValueError(
                f"metrics of task {self.name!r} is one metric; give a tuple, (metric,)"
            )
        if not self.metrics:
            raise ValueError(
                f"task {self.name!r} has no metric; give it at least one, to be compared by"
            )
        names = [metric.name for metric in self.metrics]
        if len(set(names)) != len(names):
            raise ValueError(f"metrics of task {self.name!r} need different names, not {names}")

    def labelled(self, outputs: Any, targets: Any) -> tuple[Any, Any, int] | None:
        """What has a label, and the number of labels; None where nothing has.

        Raises:
            ValueError: it cannot be told which outputs the labels belong to.
        """
        rows = next((len(t) for t in tensors(targets) if t.ndim), 1)
        if self.missing is None:
            return (outputs, targets, rows) if rows else None
        there = ~self._gone(targets, self.missing)
        count = int(there.sum())
        if count == 0:
            return None
        if there.ndim == 1 and count == len(there):
            return outputs, targets, rows

        def kept(tensor: Tensor) -> Tensor:
            if tensor.shape[: there.ndim] != there.shape:
                raise ValueError(
                    f"task {self.name!r} has labels {list(there.shape)}, some of them missing, but a tensor "
                    f"{list(tensor.shape)} among its outputs or targets: let its shape begin with that of "
                    "the labels (classes come last)"
                )
            return tensor[there.to(tensor.device)]

        return nested(kept, outputs), nested(kept, targets), count

    def _gone(self, targets: Any, missing: Callable[[Any], Tensor] | float) -> Tensor:
        """Where there is no label; a last dimension of one is a label's own."""
        if callable(missing):
            gone = missing(targets)
        elif isinstance(targets, Tensor):
            gone = targets.isnan() if missing != missing else targets.eq(missing)
        else:
            raise ValueError(
                f"missing={missing} of task {self.name!r} needs one tensor of targets, not a "
                f"{type(targets).__name__}; give a function from targets to booleans"
            )
        while gone.ndim > 1 and gone.shape[-1] == 1:
            gone = gone.squeeze(-1)
        return gone

    def loss_of(self, outputs: Any, targets: Any) -> Tensor:
        """The loss, checked.

        Raises:
            ValueError: the function raised, or returned something else than one number with a graph.
        """
        try:
            loss: Any = self.loss(outputs, targets)
        except (RuntimeError, ValueError, TypeError, LookupError, Warning) as error:
            raise ValueError(
                f"the loss of task {self.name!r} raised {told(error)} (outputs {shapes(outputs)}, targets "
                f"{shapes(targets)})"
            ) from error
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise ValueError(
                f"the loss of task {self.name!r} returned {shapes(loss)}; return the mean over the batch, "
                "a tensor of one number"
            )
        trained = torch.is_grad_enabled() and any(t.requires_grad for t in tensors(outputs))
        if trained and not loss.requires_grad:
            raise ValueError(
                f"the loss of task {self.name!r} has no graph: it was detached or made from numbers; "
                "compute it from the outputs with torch"
            )
        return loss
