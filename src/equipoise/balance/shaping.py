"""Wrappers that shape weights: bounds, the user's preference, and what they sum to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from equipoise.balance.rule import Outcome, Rule, Wrapper
from equipoise.gradients import host
from equipoise.gradients.base import Rows, TaskGradients
from equipoise.gradients.step import Step

WeightSum = Literal["paper", "tasks", "one"]
Prior: TypeAlias = "Mapping[str, float | Callable[[int], float]]"


class Bounded(Wrapper):
    """Weights kept within bounds.

    Args:
        inner: the rule inside.
        floor: no weight is below.
        cap: no weight is above.
    """

    def __init__(self, inner: Rule, floor: float | None, cap: float | None) -> None:
        super().__init__(inner)
        if floor is not None and cap is not None and floor > cap:
            raise ValueError(f"weight_floor={floor} is above weight_cap={cap}")
        self.floor, self.cap = floor, cap

    def forward(self, step: Step, gradients: TaskGradients) -> Outcome:
        """See :meth:`Rule.forward`."""
        outcome: Outcome = self.inner.forward(step, gradients)
        assert outcome.weights is not None
        return outcome._replace(weights=outcome.weights.clamp(self.floor, self.cap))


class Preferred(Wrapper):
    """Weights times the user's preference; where there are none, task gradients times it.

    Args:
        inner: the rule inside.
        prior: preference by task name, 1 where it says nothing.
    """

    def __init__(self, inner: Rule, prior: Prior) -> None:
        super().__init__(inner)
        self.prior = dict(prior)

    def forward(self, step: Step, gradients: TaskGradients) -> Outcome:
        """See :meth:`Rule.forward`."""
        priors = torch.tensor(priors_of(self.prior, step), dtype=torch.float64)
        if not self.weighs:
            gradients = gradients.changed(lambda rows: _scaled(rows, priors))
        outcome: Outcome = self.inner.forward(step, gradients)
        if outcome.weights is None:
            return outcome
        return outcome._replace(weights=outcome.weights * priors.to(outcome.weights))


class Summed(Wrapper):
    """Weights brought to a sum; a direction that sums K gradients is divided by K for a sum of one.

    Args:
        inner: the rule inside.
        to: the sum.
    """

    def __init__(self, inner: Rule, to: WeightSum) -> None:
        super().__init__(inner)
        self.to_sum = to

    def forward(self, step: Step, gradients: TaskGradients) -> Outcome:
        """See :meth:`Rule.forward`.

        Raises:
            ValueError: the weights sum to nothing that can be scaled.
        """
        outcome: Outcome = self.inner.forward(step, gradients)
        count = len(step.names)
        if outcome.direction is not None:
            factor = 1.0 / count if self.to_sum == "one" else 1.0
            weights = None if outcome.weights is None else outcome.weights * factor
            direction = [part * factor for part in outcome.direction]
            return outcome._replace(direction=direction, weights=weights)
        assert outcome.weights is not None
        total = outcome.weights.sum(-1, keepdim=True)
        # Elsewhere than on the CPU the weights that come out, not finite, tell a step later.
        if host.at_hand(total) and not torch.compiler.is_compiling():
            low = min(total.flatten().tolist())
            if not low > 0:
                raise ValueError(
                    f"the weights of '{self.method.card.id}' sum to {low:.3g} in this step, "
                    f"which cannot be scaled to weight_sum='{self.to_sum}'; use weight_sum='paper'"
                )
        wanted = count if self.to_sum == "tasks" else 1
        return outcome._replace(weights=outcome.weights * (wanted / total))


def priors_of(prior: Prior, step: Step) -> list[float]:
    """The preference for every task of a step.

    Raises:
        ValueError: one is not positive.
    """
    values = []
    for name in step.names:
        given = prior.get(name, 1.0)
        if callable(given) and torch.compiler.is_compiling():
            raise RuntimeError(
                f"the prior of task '{name}' depends on the number of the step, which a compiled step does "
                "not count; compile the model, and call the balancer outside"
            )
        value = float(given(step.number) if callable(given) else given)
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(
                f"the prior of task '{name}' is {value}; it must be positive (leave the loss out to "
                "switch a task off)"
            )
        values.append(value)
    return values


def _scaled(rows: Rows, factors: Tensor) -> Rows:
    return [part * factors.to(part).view(-1, *[1] * (part.ndim - 1)) for part in rows]
