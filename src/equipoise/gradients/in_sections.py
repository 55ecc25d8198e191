"""The parameters route with little memory: no task gradient is kept.

The trunk is passed section by section. The K gradients of a section's parameters give their part of the inner
products and are dropped; those at its lower end go into the next. The weighted sum is a backward pass of its
own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from equipoise.gradients.base import Taken, TaskGradients
from equipoise.gradients.chain import apart
from equipoise.gradients.descent import start_of
from equipoise.gradients.parameters import AtParameters
from equipoise.gradients.passes import Found as Gradients
from equipoise.gradients.passes import backward, down, flat_as, undisturbed
from equipoise.gradients.sections import Section, sections
from equipoise.solvers.products import gramian


class InSections(AtParameters):
    """The inner products of the task gradients of one step, found without keeping the gradients.

    In the 1st, 3rd, 7th, 15th ... step those of one task are compared with a pass from its loss.
    """

    _due = False

    @property
    def asked(self) -> bool:
        """See :meth:`TaskGradients.asked`."""
        return self._gramian is not None

    def take(self) -> Taken:
        """Refuses: there is nothing to take."""
        raise RuntimeError("memory='low' keeps no task gradients; use memory='fast'")

    def overflows(self) -> bool:
        """See :meth:`AtParameters.overflows`; nothing here is in float16."""
        return False

    def _products(self) -> Tensor:
        if len(self._step.present) == 1:
            return self._alone()
        start = self._start()
        found, tasks = self.found, len(self._step.names)
        own = [leaf for leaves in found.own for leaf in leaves]
        entries = sum(p.numel() for p in found.shared) // tasks
        total = torch.zeros(tasks, tasks, dtype=torch.float64, device=self._step.values.device)
        with undisturbed([*found.shared, *own], found.sinks):
            upstream = self._upstream(start)
            first = upstream[self._last]
            self._due = self._finder.trust.due(("sections",))
            seen: dict[Tensor, Tensor | None] = {}
            for section in sections(start, found.shared, entries):
                total += self._through(section, upstream, seen).to(total)
            if seen:
                self._compare(seen, first)
        return total if self.over_ranks is None else self.over_ranks(total)

    def _alone(self) -> Tensor:
        """The inner products where one task is present: one gradient is no more than a plain step has."""
        found = self.found
        with undisturbed([*found.shared, *found.own[self._last]], found.sinks):
            row = backward(self._step.present[0], found.shared, 1.0, keep_graph=True)
        count = len(self._step.names)
        total = torch.zeros(count, count, dtype=torch.float64, device=self._step.values.device)
        square = gramian(_part([g], p) for g, p in zip(row, found.shared, strict=True))
        total[self._last, self._last] = square.to(total)[0, 0]
        return total if self.over_ranks is None else self.over_ranks(total)

    def _start(self) -> GradientEdge:
        ranks = self._how.ranks
        if ranks is not None and self._how.average:
            raise ValueError(
                "memory='low' keeps no task gradients that processes could average; use sync='gramian', or "
                "balance at the features with balancer.share()"
            )
        if self.found.half:
            raise ValueError(
                "memory='low' does not scale the losses of float16 anew where a gradient overflows; use "
                "bfloat16, or memory='fast'"
            )
        entry = self.found.entry
        start = None if self.found.doubtful else start_of(entry, self._share)
        past = self._share is None and entry is not None and not entry.complete()
        if start is None or past:
            raise ValueError(
                "memory='low' has to know one tensor, made by the trunk, that all heads read: give it to "
                "balancer.share() with route='parameters', or use memory='fast'"
            )
        return start

    def _upstream(self, start: GradientEdge) -> list[Tensor | None]:
        """For each task the gradient at what all heads read."""
        step, share = self._step, self._share
        found: Sequence[Gradients | None]
        if share is not None:
            views = share.views_of(step.names)
            found = [
                None if x is None else backward(x, view, 1.0, keep_graph=True)
                for x, view in zip(step.losses, views, strict=True)
            ]
        else:
            found = [
                None if x is None else backward(x, [start], 1.0, keep_graph=True)
                for x in step.losses
            ]
        return [None if g is None else g[0] for g in found]

    @property
    def _last(self) -> int:
        """The position of the last task that is present."""
        return max(k for k, loss in enumerate(self._step.losses) if loss is not None)

    def _compare(self, seen: dict[Tensor, Tensor | None], first: Tensor | None) -> None:
        """Compares the gradients of the last task with those of one pass through all sections.

        Args:
            seen: the gradients.
            first: what came in at the top.
        """
        if self._share is not None:
            exact = down(self._share.features, [first], list(seen), keep_graph=True)
        else:
            exact = backward(self._step.present[-1], list(seen), 1.0, keep_graph=True)
        found = [torch.zeros_like(p) if g is None else g for p, g in seen.items()]
        if bool(apart(found, exact) > 1):
            raise ValueError(
                "something changes gradients on their way through the trunk, such as a hook on a tensor or a "
                "module, and memory='low' would not apply it once to each task: use memory='fast'"
            )

    def _through(
        self, section: Section, upstream: list[Tensor | None], seen: dict[Tensor, Tensor | None]
    ) -> Tensor:
        """A section's part of the inner products.

        Args:
            section: the section.
            upstream: what comes in for each task; becomes what comes out below.
            seen: takes the gradients of the last task, where they are to be compared.
        """
        inputs: list[Any] = [*section.leaves]
        if section.bottom is not None:
            inputs.append(section.bottom)
        rows: list[Gradients] = []
        for k, incoming in enumerate(upstream):
            upstream[k] = None
            if incoming is None or not inputs:
                rows.append([None] * len(section.leaves))
                continue
            got = down([section.top], [incoming], inputs, keep_graph=True)
            if section.bottom is not None:
                upstream[k] = got.pop()
            rows.append(got)
        if self._due:
            seen.update(zip(section.leaves, rows[self._last], strict=True))
        if not section.leaves:
            return torch.zeros(len(rows), len(rows), dtype=torch.float64)
        columns = zip(zip(*rows, strict=True), section.leaves, strict=True)
        return gramian(_part(column, leaf) for column, leaf in columns)

    def _holds(self, gradients: TaskGradients) -> bool:
        """See :meth:`AtParameters._holds`; the weighted sum is a backward pass of its own."""
        return False


def _part(column: Sequence[Tensor | None], leaf: Tensor) -> list[Tensor]:
    """One parameter's gradients of all tasks."""
    real = torch.view_as_real(leaf.detach()) if leaf.is_complex() else leaf.detach()
    zeros = real.new_zeros(()).expand(real.numel())
    return [zeros if g is None else flat_as(g, zeros) for g in column]
