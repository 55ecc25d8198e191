"""What gets into a step: losses are read, checked, left out or transformed, and mistakes are told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from equipoise.balance.naming import (
    Losses,
    listed,
    named,
    refuse_below_one,
    refuse_small,
    refuse_tensor,
    require_graph,
)
from equipoise.balance.together import Weight, over_ranks
from equipoise.gradients.host import Later
from equipoise.gradients.ranks import Ranks
from equipoise.gradients.step import Step, stacked
from equipoise.methods.base import CrossBatchMethod, Method
from equipoise.methods.state import Stateful
from equipoise.solvers import NonFiniteError

Transform = Literal["none", "log"]
NonFinite = Literal["raise", "skip_task", "skip_step"]
Checks = Literal["now", "deferred"]


class Reader(Stateful):
    """Reads the losses of a call.

    Args:
        method: the method.
        nonfinite: what to do about a loss that is NaN or infinite.
        transform: what the method sees instead of the losses.
        checks: when numbers are looked at.
        stacked: whether one tensor of all losses will do.

    Attributes:
        tasks: names of all tasks; None before they are known.
        left_out: how often each task's loss was left out since it was not finite.
    """

    def __init__(
        self,
        method: Method,
        nonfinite: NonFinite,
        transform: Transform,
        checks: Checks,
        stacked: bool,
    ) -> None:
        super().__init__()
        self.tasks: tuple[str, ...] | None = None
        self.left_out: dict[str, int] = {}
        self._id = method.card.id
        self._least = method.least_loss
        self._batches = 3 if isinstance(method, CrossBatchMethod) else 1
        self._nonfinite = nonfinite
        self._transform = transform
        self._checks = checks
        self._stacked = stacked
        # Losses of the last step that nobody has looked at yet, and their names.
        self._pending: tuple[tuple[str, ...], Later] | None = None

    def name(self, tasks: tuple[str, ...]) -> None:
        """Learns the tasks.

        Raises:
            ValueError: two tasks have the same name, or there is none.
        """
        if not tasks or len(set(tasks)) < len(tasks):
            raise ValueError(f"tasks must be different names, at least one; got {list(tasks)}")
        self.tasks = tasks
        self.left_out = dict.fromkeys(tasks, 0)
        self._write()

    def plain(self, losses: Losses) -> Step:
        """The losses of a call in evaluation: nothing is checked that training needs."""
        refuse_tensor(losses, self._id, self._stacked)
        return self._step(self._given(losses), 0)

    def _given(self, losses: Losses) -> dict[str, Tensor]:
        present = named(losses, self.tasks)
        if not present:
            raise ValueError("no loss is present in this step: every one is missing or None")
        return present

    def _step(self, present: dict[str, Tensor], number: int) -> Step:
        tasks = self._tasks()
        together = stacked(list(present.values()))
        values = together.detach()
        names = tuple(present)
        positions = None if names == tasks else tuple(map(tasks.index, names))
        return Step(names, list(present.values()), together, values, values, positions, number)

    def enter(
        self,
        batches: Sequence[Losses],
        number: int,
        ranks: Ranks | None = None,
        weight: Weight = None,
        *,
        fresh: bool = False,
    ) -> list[Step] | None:
        """The losses of a training call, batch by batch; None where the step is to be skipped.

        Args:
            batches: what the user gave.
            number: of the step.
            ranks: the processes that train together, if there are several.
            weight: how many examples this rank has.
            fresh: whether this rank has yet to take the first rank's state.

        Raises:
            TypeError: a wrong number of batches.
            ValueError: a loss without a graph, an unknown task, a loss that is not finite or not positive.
        """
        count = self._batches
        if len(batches) != count:
            raise TypeError(
                f"'{self._id}' takes the losses of {count} independent batch"
                f"{'es' if count > 1 else ''} a step, got {len(batches)}: "
                f"balancer({', '.join(['losses'] * count)})"
            )
        steps = []
        for losses in batches:
            refuse_tensor(losses, self._id, self._stacked)
            if ranks is None:
                step = self._read(losses, number)
            else:
                step = self._read_over_ranks(losses, number, ranks, weight, fresh=fresh)
            steps.append(None if step is None else self._transformed(step))
        admitted = [step for step in steps if step is not None]
        if len(admitted) < len(steps):
            return None
        if any(step.names != admitted[0].names for step in admitted[1:]):
            raise ValueError(f"'{self._id}' needs the losses of the same tasks in all batches")
        return admitted

    def beside(
        self,
        losses: Losses,
        number: int,
        ranks: Ranks | None,
        weight: Weight = None,
        only: Sequence[str] | None = None,
    ) -> Step | None:
        """Losses that are looked at beside a step: of the same batch again, or of a validation batch.

        Args:
            losses: what the user gave.
            number: of the step.
            ranks: the processes that train together, if there are several.
            weight: how many examples this rank has.
            only: the tasks of interest.

        Raises:
            ValueError: one of them is not finite or not positive.
        """
        refuse_tensor(losses, self._id, self._stacked)
        if only is not None:
            given = named(losses, self.tasks)
            losses = {name: given[name] for name in only if name in given}
        if ranks is not None:
            graph = torch.is_grad_enabled()
            step = self._read_over_ranks(losses, number, ranks, weight, fresh=False, graph=graph)
        else:
            step = self._looked_at(self._given(losses), number)
        return None if step is None else self._transformed(step)

    def _tasks(self) -> tuple[str, ...]:
        assert self.tasks is not None
        return self.tasks

    def metrics(self) -> dict[str, float]:
        """How often losses were left out, by task."""
        return {f"nonfinite/{n}": float(times) for n, times in self.left_out.items() if times}

    def _read(self, losses: Losses, number: int) -> Step | None:
        present = require_graph(self._given(losses))
        if not present:
            raise ValueError("every loss of this step is a constant 0: there is nothing to train")
        if torch.compiler.is_compiling():
            return self._step(present, number)
        if self._checks == "deferred":
            self.look_back()
            step = self._step(present, number)
            self._pending = step.names, Later(step.values)
            return step
        return self._looked_at(present, number)

    def _looked_at(self, present: dict[str, Tensor], number: int) -> Step | None:
        """The losses that are fit for use; None where the step is to be skipped."""
        step = self._step(present, number)
        values = step.values.tolist()
        if not all(map(math.isfinite, values)):
            bad = {n for n, v in zip(step.names, values, strict=True) if not math.isfinite(v)}
            if self._skips(bad, step.names):
                return None
            kept = {n: x for n, x in present.items() if n not in bad}
            step = self._step(kept, number)._replace(left_out=[present[n] for n in bad])
            values = step.values.tolist()
        self._refuse_small(step.names, values)
        return step

    def _read_over_ranks(
        self,
        losses: Losses,
        number: int,
        ranks: Ranks,
        weight: Weight,
        *,
        fresh: bool,
        graph: bool = True,
    ) -> Step | None:
        tasks = self._tasks()
        whole = over_ranks(losses, tasks, ranks, weight, fresh=fresh, graph=graph)
        if whole.bad and self._skips(whole.bad, whole.names):
            return None
        step = whole.step(tasks, number)
        self._refuse_small(step.names, step.values.tolist())
        return step

    def look_back(self) -> None:
        """Looks at the losses of the last step, where that was deferred.

        Raises:
            ValueError: one of them was not finite, or not positive.
        """
        if self._pending is None:
            return
        (names, seen), self._pending = self._pending, None
        values = seen.read()
        when = " in the step before this one"
        bad = [n for n, v in zip(names, values, strict=True) if not math.isfinite(v)]
        if bad:
            raise NonFiniteError(
                f"loss {listed(bad)} was not finite{when}, and the network has been trained on it; go back "
                "to a checkpoint, and find the cause with checks='now'"
            )
        self._refuse_small(names, values, when)

    def _skips(self, bad: set[str], names: Sequence[str]) -> bool:
        """Whether the whole step is left out for losses that are not finite."""
        shown = [name for name in names if name in bad]
        if self._nonfinite == "raise":
            raise NonFiniteError(
                f"loss {listed(shown)} is not finite; find the cause, or let the balancer "
                "leave it out with nonfinite='skip_task' or 'skip_step'"
            )
        for name in shown:
            self.left_out[name] += 1
        return self._nonfinite == "skip_step" or len(shown) == len(names)

    def _refuse_small(self, names: Sequence[str], values: Sequence[float], when: str = "") -> None:
        if self._transform == "log":
            refuse_small(names, values, "transform='log'", "above_zero", when)
            if self._least != "any":
                refuse_below_one(names, values, f"'{self._id}'", when)
        elif self._least != "any":
            refuse_small(names, values, f"'{self._id}'", self._least, when)

    def _transformed(self, step: Step) -> Step:
        if self._transform == "none":
            return step
        # The logarithm of a mean over ranks is no mean of logarithms: each rank takes its part of the slope.
        logs = [
            None if x is None else x.log() if v is None else x / v + (v.log() - x.detach() / v)
            for x, v in zip(step.losses, step.means(), strict=True)
        ]
        return step._replace(losses=logs, stacked=stacked(logs), values=step.values.log())

    def __getstate__(self) -> dict[str, Any]:
        # What is on its way from a device cannot be copied.
        return {**self.__dict__, "_pending": None}

    # --- saving -----------------------------------------------------------------------------------

    def _written(self) -> dict[str, Tensor]:
        tasks = self.__dict__.get("tasks")
        if tasks is None:
            return {}
        names = list("\0".join(tasks).encode())
        return {
            "task_names": torch.tensor(names, dtype=torch.uint8),
            "times_left_out": torch.tensor([self.left_out[name] for name in tasks]),
        }

    def _read_back(self, written: Mapping[str, Tensor]) -> None:
        if self.tasks is not None:
            counts = written["times_left_out"].tolist()
            self.left_out = dict(zip(self.tasks, counts, strict=True))
