"""From task gradients to what becomes of them: a published method as one rule."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from equipoise.gradients.base import Rows, TaskGradients
from equipoise.gradients.step import Step
from equipoise.methods.base import (
    CrossBatchMethod,
    GramianMethod,
    JacobianMethod,
    LossMethod,
    Method,
)
from equipoise.methods.state import Stateful
from equipoise.solvers import NonFiniteError

_NOTHING = nullcontext()


class Learned(NamedTuple):
    """Weights that an optimiser trains, with their graph.

    Attributes:
        weights: ``Tensor[K]``.
        penalty: what the method adds to each weighted loss, ``Tensor[K]``, or None.
    """

    weights: Tensor
    penalty: Tensor | None


class Outcome(NamedTuple):
    """What a rule says of a step.

    Attributes:
        weights: of the losses, ``Tensor[K]``, or ``Tensor[T, K]`` for T tensors with weights of their own;
            None for a rule that has none.
        direction: the combined gradient of each tensor, where it is no weighted sum.
        gradients: what the weights are to be applied to.
        learned: the weights with their graph, where they are learned.
    """

    weights: Tensor | None
    direction: list[Tensor] | None
    gradients: TaskGradients
    learned: Learned | None = None


class Rule(Stateful):
    """Looks at the losses of a step and, if it asks for them, at task gradients, and says what is to be done.

    A rule that does not ask costs no backward pass.
    """

    # The published method inside.
    method: Method

    @property
    def kept(self) -> Any:
        """The wrapper inside that keeps the last weights, a ``Kept``; None where there is none."""
        return None

    @property
    def weighs(self) -> bool:
        """Whether it gives loss weights, not only a direction."""
        return not isinstance(self.method, JacobianMethod)

    def blind(self, step: Step) -> bool:
        """Whether it does without task gradients in this step."""
        raise NotImplementedError

    def forward(self, step: Step, gradients: TaskGradients) -> Outcome:
        """Balances a step; the state advances."""
        raise NotImplementedError

    def allocate(self, tasks: int) -> None:
        """See :meth:`Stateful.allocate`."""
        super().allocate(tasks)
        self.tasks = tasks

    tasks: int = 0

    def seeing(self, module: Stateful, step: Step) -> AbstractContextManager[None]:
        """Lets a module's state be that of the tasks of this step only."""
        if step.positions is None:
            return _NOTHING
        return module.only(torch.tensor(step.positions), self.tasks)


class Plain(Rule):
    """A published method, as it is.

    Args:
        method: the method.
    """

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.maths = method
        self.__dict__["method"] = method

    def allocate(self, tasks: int) -> None:
        """See :meth:`Rule.allocate`."""
        super().allocate(tasks)
        self.maths.begin(tasks)
        if self.maths.self_optimized:
            self.maths.requires_grad_(False)
        self.maths.allocate(tasks)

    def blind(self, step: Step) -> bool:
        """See :meth:`Rule.blind`."""
        method = self.maths
        return isinstance(method, LossMethod) or not getattr(method, "reads_gramian", True)

    def forward(self, step: Step, gradients: TaskGradients) -> Outcome:
        """See :meth:`Rule.forward`."""
        method = self.maths
        if isinstance(method, LossMethod):
            with self.seeing(method, step):
                if method.self_optimized:
                    method.requires_grad_()
                weights = method.weights(step.values)
                if not method.learns:
                    return Outcome(weights, None, gradients)
                learned = Learned(weights, method.penalty())
            return Outcome(weights.detach(), None, gradients, learned)
        if isinstance(method, GramianMethod | CrossBatchMethod):
            if self.blind(step):
                values = step.values
                gramian = torch.zeros(len(values), len(values), dtype=torch.float64)
            else:
                gramian, values = gradients.with_losses(step.values)
                refuse_nonfinite(step, gradients)
            with self.seeing(method, step):
                if gramian.ndim == 3:
                    values = values.expand(len(gramian), -1)
                return Outcome(method.weights(gramian, values).detach(), None, gradients)
        assert isinstance(method, JacobianMethod)
        refuse_nonfinite(step, gradients)

        def rule(rows: Rows, features: list[Tensor]) -> list[Tensor]:
            if features:
                return method.combine_features(rows, features, step.values)
            return [method.combine(rows[0], step.values)]

        with self.seeing(method, step):
            direction = gradients.entries(rule)
            return Outcome(method.applied_weights, direction, gradients)


class Wrapper(Rule):
    """A rule around another.

    Args:
        inner: the rule inside.
    """

    def __init__(self, inner: Rule) -> None:
        super().__init__()
        self.inner = inner
        self.__dict__["method"] = inner.method

    @property
    def kept(self) -> Any:
        """See :attr:`Rule.kept`."""
        return self.inner.kept

    def allocate(self, tasks: int) -> None:
        """See :meth:`Rule.allocate`."""
        super().allocate(tasks)
        self.inner.allocate(tasks)

    def blind(self, step: Step) -> bool:
        """See :meth:`Rule.blind`."""
        return self.inner.blind(step)


def refuse_nonfinite(step: Step, gradients: TaskGradients) -> None:
    """Raises for a task gradient that is not finite, before any state has seen it.

    Raises:
        NonFiniteError: naming the tasks.
    """
    gramian = gradients.gramian()
    squares = gramian.diagonal(dim1=-2, dim2=-1)
    if squares.ndim > 1:
        squares = squares.sum(0)
    found = squares.tolist()
    if not all(map(math.isfinite, found)):
        bad = [repr(n) for n, s in zip(step.names, found, strict=True) if not math.isfinite(s)]
        raise NonFiniteError(
            f"the gradient of loss {', '.join(bad)} is not finite although the loss is; common causes "
            "are sqrt or log at 0 and overflow in half precision"
        )


def share_of_past(option: str, share: float) -> float:
    """The share of the past in an average.

    Raises:
        ValueError: it is outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"{option}={share}: the share of the past is in [0, 1)")
    return share
