"""Calls that compute losses themselves: after a step, on validation batches, or at perturbed parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from equipoise.balance.bilevel import Skip, descend, learn_weights
from equipoise.balance.mistakes import agreed
from equipoise.balance.naming import Losses, names_of
from equipoise.balance.standing import Standing
from equipoise.balance.together import Weight
from equipoise.gradients.lookahead import untouched
from equipoise.gradients.perturbed import Uphill
from equipoise.gradients.ranks import Ranks, ranks
from equipoise.gradients.step import Step
from equipoise.methods.base import BilevelMethod, CrossBatchMethod, Method
from equipoise.methods.forum import FORUM


class Beside(Standing):
    """A balancer's calls that take functions in place of losses."""

    def after_step(self, closure: Callable[[], Losses]) -> None:
        """For methods that look at the losses again after the optimiser step (FAMO); else does nothing.

        Args:
            closure: computes the losses of the same batch. It runs without gradients; batch-norm
                statistics and random generators are left as they were.
        """
        if not self.training or type(self.method).after_step is Method.after_step:
            return
        self._patience = -1
        with untouched(), torch.no_grad():
            number, together = self.pipeline.number, ranks(self._options.sync)
            step = self.reader.beside(closure(), number, together, self._weight)
        if step is not None:
            self.pipeline.after_step(step)

    def bilevel(
        self,
        inner: Callable[[], Losses],
        outer: Callable[[], Losses],
        *,
        weight: Weight = None,
    ) -> Tensor:
        """The balanced loss of a method that learns its weights on outer losses (MOML, FORUM).

        Args:
            inner: computes the losses of the training batch.
            outer: computes the losses of a validation batch.
            weight: as in :meth:`forward`, of both batches.

        Returns:
            A scalar to call ``backward()`` on, as :meth:`forward` gives it.

        Raises:
            TypeError: the method has no outer losses.
        """
        method = self.method
        if not isinstance(method, BilevelMethod):
            raise TypeError(
                f"'{self.card.id}' learns nothing on outer losses; call balancer(losses)"
            )
        if not self.training:
            return self._plain(inner())
        self._patience = -1
        together = ranks(self._options.sync)
        first, second = (self._all_of(closure, together, weight) for closure in (inner, outer))
        try:
            if isinstance(method, FORUM):
                total, step, weights, parameters = descend(method, first, second, together)
                self.pipeline.note_elsewhere(step, weights, parameters)
                self._share = None
                return total
            with self.pipeline.keeping_failures():
                learn_weights(method, first, second, together)
        except Skip:
            return torch.zeros((), requires_grad=True)
        balanced: Tensor = self(inner(), weight=weight)
        return balanced

    def sharpness_aware(
        self,
        closure: Callable[[], Losses],
        *,
        rho: float = 0.05,
        local: float = 0.1,
        eps: float = 1e-3,
        weight: Weight = None,
    ) -> Tensor:
        """The balanced loss with task gradients of perturbed parameters behind it (SAMO).

        Works around every method that needs one batch. Each step costs K + 1 backward passes and 3 K + 1
        forward passes (K + 1 with ``local=0``), all of the same batch.

        Args:
            closure: computes the losses of the batch; it is called repeatedly.
            rho: length of the perturbation uphill.
            local: share of the task's own gradient in it, estimated from two forward passes a task.
            eps: step of that estimate.
            weight: as in :meth:`forward`.

        Raises:
            TypeError: the method needs several batches.
            ValueError: the closure gives other tasks the next time, a process lacks a task, or a number is
                out of its range.
        """
        if not self.training:
            return self._plain(closure())
        if rho <= 0 or eps <= 0 or not 0 <= local <= 1:
            raise ValueError(
                f"rho={rho} and eps={eps} must be positive and local={local} in [0, 1]"
            )
        if isinstance(self.method, CrossBatchMethod | FORUM):
            raise TypeError(
                f"sharpness_aware() works on one batch, which '{self.card.id}' does not"
            )
        if self._options.memory == "low":
            raise ValueError(
                "sharpness_aware() takes every task gradient at other parameters, and keeps them: leave "
                "memory='low' out"
            )
        if self._options.route == "features":
            raise ValueError(
                "sharpness_aware() takes task gradients of perturbed parameters, which route='features' does "
                "not have"
            )
        together = ranks(self._options.sync)
        steps = self._enter([closure()], together, weight)
        if steps is None:
            return torch.zeros((), requires_grad=True)
        (step,) = steps
        # Views that the closure hands out are for its own losses; later ones must not be taken for theirs.
        self._share = None
        if step.uneven:
            raise ValueError(
                "a process lacks a task of this step, and sharpness_aware() needs every process for every "
                "task; give every process all tasks"
            )

        kind = step.values.device.type
        autocast = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

        def again() -> Sequence[Tensor | None]:
            with torch.autocast(kind, enabled=autocast[0], dtype=autocast[1]):
                losses = closure()
            then = self.reader.beside(losses, step.number, together, weight, step.names)
            if then is None or then.names != step.names:
                raise ValueError(
                    "the closure must give the losses of the same tasks every time, finite too where it is a "
                    "step away (nonfinite= holds for the first call)"
                )
            return then.losses

        total = self.pipeline.uphill(step, again, together, Uphill(rho, local, eps))
        self._share = None
        return total

    def _all_of(
        self, closure: Callable[[], Losses], together: Ranks | None, weight: Weight
    ) -> Callable[[], Step]:
        def read() -> Step:
            if self.tasks is None:
                self._name(agreed(names_of(losses := closure()), together))
            else:
                losses = closure()
            step = self.reader.beside(losses, self.pipeline.number, together, weight)
            if step is None:
                raise Skip
            if step.positions is not None or step.uneven:
                raise ValueError(
                    f"'{self.card.id}' needs the losses of all tasks in every step; nonfinite='skip_step' "
                    "skips one in which a loss is not finite"
                )
            return step

        return read
