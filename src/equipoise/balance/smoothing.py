"""Wrappers that change task gradients: averaged over steps, or taken tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.balance.rule import Outcome, Rule, Wrapper, refuse_nonfinite, share_of_past
from equipoise.gradients.base import ByTensor, Rows, TaskGradients
from equipoise.gradients.step import Step
from equipoise.methods.base import GramianMethod, Method
from equipoise.methods.state import Stateful


class AveragedGradients(Wrapper):
    """Task gradients averaged over steps; the first ones of a task are taken as they are.

    Args:
        inner: the rule inside.
        share: of the last gradients in the new ones, in [0, 1).
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"averages": (-2,)}
    averages: Tensor

    def __init__(self, inner: Rule, share: float) -> None:
        super().__init__(inner)
        self.share = share_of_past("gradient_ema", share)

    def blind(self, step: Step) -> bool:
        """See :meth:`Rule.blind`; the average has to see every step."""
        return self.kept is not None and self.kept.frozen

    def forward(self, step: Step, gradients: TaskGradients) -> Outcome:
        """See :meth:`Rule.forward`.

        Raises:
            ValueError: the step has other shared parameters than the last one.
        """
        if self.kept is not None and self.kept.frozen:
            return self.inner.forward(step, gradients)
        refuse_nonfinite(step, gradients)
        made: list[Rows] = []

        def averaged(rows: Rows) -> Rows:
            # Asked for once more by rules of single entries, and an average goes on once a step.
            if not made:
                made.append(self._averaged(rows, step))
            return made[0]

        changed = gradients.changed(averaged)
        changed.taken()
        return self.inner.forward(step, changed)

    def _averaged(self, rows: Rows, step: Step) -> Rows:
        (new,) = rows
        if self.knows("averages") and self.averages.shape[-1] != new.shape[-1]:
            raise ValueError(
                f"gradient_ema keeps gradients of {self.averages.shape[-1]:,} shared entries, but this step "
                f"has {new.shape[-1]:,}; name the shared parameters with shared="
            )
        with self.seeing(self, step):
            last = self.recall("averages", new)
            self.averages = torch.lerp(new, last, self.share)
            return [self.averages]


class PerTensor(Wrapper):
    """Every parameter tensor by itself, with weights of its own.

    Args:
        inner: the rule inside.

    Raises:
        ValueError: its method does not weigh by inner products of task gradients.
    """

    def __init__(self, inner: Rule) -> None:
        super().__init__(inner)
        refuse_by_tensor(inner.method)
        # The number of tensors is known from the first step on, too late for copies made before.
        for module in inner.modules():
            if isinstance(module, Stateful):
                module.come_late()

    def forward(self, step: Step, gradients: TaskGradients) -> Outcome:
        """See :meth:`Rule.forward`; the weights shown are the mean over the entries of the model."""
        whole = ByTensor(gradients)
        outcome: Outcome = self.inner.forward(step, whole)
        assert outcome.weights is not None
        shown = whole.shares().to(outcome.weights) @ outcome.weights
        return Outcome(shown, whole.combine(outcome.weights), gradients)


def refuse_by_tensor(method: Method) -> None:
    """Refuses a method without anything to do tensor by tensor.

    Raises:
        ValueError: naming it.
    """
    if not isinstance(method, GramianMethod) or not method.reads_gramian:
        raise ValueError(
            f"'{method.card.id}' does not look at inner products of task gradients, so there is nothing to "
            "do block by block (blocks='parameter')"
        )
