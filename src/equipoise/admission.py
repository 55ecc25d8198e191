"""What gets into a step: losses are read, checked, left out or transformed, and mistakes are told."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from equipoise.learning import Learning
from equipoise.methods.base import CrossBatchMethod, Method
from equipoise.routes.tasks import Losses, Step, named, require_graph, step_of
from equipoise.weighing import Weighing

Transform = Literal["none", "log"]
NonFinite = Literal["raise", "skip_task", "skip_step"]
# Steps after which a method that waits for a call between them is taken for forgotten.
PATIENCE = 1000


class Admission:
    """Reads the losses of a call.

    Args:
        method: the method.
        nonfinite: what to do about a loss that is NaN or infinite.
        transform: what the method sees instead of the losses.
        stacked: whether one tensor of all losses will do.
        weighing: counts the steps.
        learning: of the weights, where they are learned.
        name: told the tasks when the first call brings them.

    Attributes:
        tasks: names of all tasks; None before they are known.
        patience: steps left for the call that the method waits for; negative when it need not come.
    """

    def __init__(
        self,
        method: Method,
        nonfinite: NonFinite,
        transform: Transform,
        stacked: bool,
        weighing: Weighing,
        learning: Learning,
        name: Callable[[tuple[str, ...]], None],
    ) -> None:
        self.method = method
        self.nonfinite = nonfinite
        self.transform = transform
        self.stacked = stacked
        self.weighing = weighing
        self.learning = learning
        self.name = name
        self.tasks: tuple[str, ...] | None = None
        self.patience = PATIENCE if method.awaits else -1

    def read(self, losses: Losses, training: bool) -> Step:
        """The losses of a call, with their graph when training."""
        if isinstance(losses, Tensor) and (losses.ndim != 1 or not self.stacked):
            what = (
                f"'{self.method.card.id}' would differentiate it once per task, K passes through "
                "all K heads, and one NaN would spread to every task"
                if losses.ndim == 1
                else f"it has shape {tuple(losses.shape)}"
            )
            raise ValueError(
                f"the losses are one tensor: {what}; pass them separately, as {{'name': loss, ...}}"
            )
        present = named(losses, self.tasks)
        if not present:
            raise ValueError("no loss is present in this step: every one is missing or None")
        if self.tasks is None:
            self.name(tuple(present) if not isinstance(losses, Mapping) else tuple(losses))
        if training:
            present = require_graph(present)
            if not present:
                raise ValueError(
                    "every loss of this step is a constant 0: there is nothing to train"
                )
        return step_of(present, self.tasks or (), self.weighing.step)

    def enter(self, batches: Sequence[Losses], training: bool) -> list[Step] | None:
        """The admitted steps of all batches; None where the step is to be skipped."""
        count = 3 if isinstance(self.method, CrossBatchMethod) else 1
        if training and len(batches) != count:
            raise TypeError(
                f"'{self.method.card.id}' takes the losses of {count} independent batch"
                f"{'es' if count > 1 else ''} a step, got {len(batches)}: "
                f"balancer({', '.join(['losses'] * count)})"
            )
        steps = [self.read(batch, training) for batch in batches]
        if any(step.names != steps[0].names for step in steps[1:]):
            raise ValueError(
                f"'{self.method.card.id}' needs the losses of the same tasks in all batches"
            )
        if not training:
            return steps
        admitted = [step for step in map(self._admit, steps) if step is not None]
        return admitted if len(admitted) == len(steps) else None

    def _admit(self, step: Step) -> Step | None:
        """The step without what must not get in; None to skip it."""
        values = step.values.tolist()
        finite = [math.isfinite(v) for v in values]
        if not all(finite):
            bad = [n for n, ok in zip(step.names, finite, strict=True) if not ok]
            if self.nonfinite == "raise":
                raise ValueError(
                    f"loss {', '.join(map(repr, bad))} is not finite; find the cause, or let the balancer "
                    "leave it out with nonfinite='skip_task' or 'skip_step'"
                )
            self.weighing.record.skipped(bad)
            if self.nonfinite == "skip_step" or len(bad) == len(step.names):
                return None
            step = step.keep(finite, self.tasks or ())
        step = self.transformed(step)
        if self.method.least_loss != "any":
            _refuse_low(step, f"'{self.method.card.id}'", self.method.least_loss == "zero")
        self.learning.watch(step.tensors[0])
        if self.patience >= 0:
            self._remind()
        if self.weighing.step == 0:
            self._tell_of_processes()
        return step

    def _tell_of_processes(self) -> None:
        if processes() > 1:
            warnings.warn(
                f"{processes()} processes train together, and each finds its own weights from its own "
                "batch; learnable weights and averages drift apart. Broadcast the balancer's state, or use a "
                "method without state such as 'ew' or 'scalarization'",
                stacklevel=7,
            )

    def _remind(self) -> None:
        """Warns, once, when the call that the method waits for never comes."""
        self.patience -= 1
        if self.patience < 0:
            warnings.warn(
                f"'{self.method.card.id}' has taken {PATIENCE} steps without a call of "
                f"balancer.{self.method.awaits}, and without it its weights never change as published; "
                "see its page for where the call belongs",
                stacklevel=6,
            )

    def transformed(self, step: Step) -> Step:
        """The step as the method sees it."""
        if self.transform == "none":
            return step
        _refuse_low(step, "transform='log'")
        return step.logarithmic()


def _refuse_low(step: Step, who: str, zero: bool = False) -> None:
    """Refuses losses below 0, and 0 itself unless ``zero`` lets it in."""
    for name, value in zip(step.names, step.values.tolist(), strict=True):
        if value < 0 or (value == 0 and not zero):
            raise ValueError(
                f"loss '{name}' is {value:.4g}, but {who} needs positive losses; add a constant to it, or "
                "choose a method without a logarithm"
            )


def processes() -> int:
    """How many processes train together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1
