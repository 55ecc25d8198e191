"""What can be put around any rule: reuse, averages, bounds, preferences, scale, tensor by tensor.

Each is a rule itself and looks at the one inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from equipoise.balance.rule import Outcome, Rule, refuse_nonfinite
from equipoise.gradients import host
from equipoise.gradients.base import ByTensor, Rows, TaskGradients
from equipoise.gradients.step import Step
from equipoise.methods.base import Method
from equipoise.solvers import SolverError

WeightSum = Literal["paper", "tasks", "one"]
OnFailure = Literal["raise", "keep"]
Prior: TypeAlias = "Mapping[str, float | Callable[[int], float]]"


class Wrapper(Rule):
    """A rule around another.

    Args:
        inner: the rule inside.
    """

    def __init__(self, inner: Rule) -> None:
        super().__init__()
        self.inner = inner

    @property
    def method(self) -> Method:
        """The published method inside."""
        return self.inner.method

    @property
    def kept(self) -> Kept | None:
        """See :attr:`Rule.kept`."""
        found: Kept | None = self.inner.kept
        return found

    def allocate(self, tasks: int) -> None:
        """See :meth:`Rule.allocate`."""
        super().allocate(tasks)
        self.inner.allocate(tasks)

    def blind(self, step: Step) -> bool:
        """See :meth:`Rule.blind`."""
        return self.inner.blind(step)


class Averaged(Wrapper):
    """Weights averaged over steps; those of a task seen first are its new ones.

    Args:
        inner: the rule inside.
        share: of the last weights in the new ones, in [0, 1).
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"mean": (-1,)}
    mean: Tensor

    def __init__(self, inner: Rule, share: float) -> None:
        super().__init__(inner)
        self.share = _share("weight_ema", share)

    def forward(self, step: Step, gradients: TaskGradients) -> Outcome:
        """See :meth:`Rule.forward`."""
        outcome = self.inner(step, gradients)
        new = outcome.weights
        with self.seeing(self, step):
            if not self.knows("mean"):
                self.mean = new.clone()
            else:
                last = self.recall("mean", new)
                self.mean = torch.where(
                    last == new, new, self.share * last + (1 - self.share) * new
                )
            return outcome._replace(weights=self.mean)  # type: ignore[no-any-return]


class Kept(Wrapper):
    """Keeps the last weights: for the steps in between, and for when a solver fails.

    Args:
        inner: the rule inside.
        every: new weights every so many steps.
        on_failure: what a failed solver means.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"last": (-1,)}
    numbers = ("solver_failures", "phase")
    last: Tensor
    solver_failures: int
    # Steps since the last new weights, fewer than ``every``.
    phase: int

    def __init__(self, inner: Rule, every: int, on_failure: OnFailure) -> None:
        super().__init__(inner)
        self.every = every
        self.on_failure = on_failure
        self.frozen = False
        # Positions of the tasks that have had weights; None when nobody has looked yet.
        self._had: set[int] | None = None

    @property
    def kept(self) -> Kept:
        """See :attr:`Rule.kept`."""
        return self

    @contextmanager
    def freeze(self) -> Iterator[None]:
        """Uses the last weights in every step, while it lasts."""
        before, self.frozen = self.frozen, True
        try:
            yield
        finally:
            self.frozen = before

    def count_failure(self) -> None:
        """Counts a solver that failed."""
        self.solver_failures += 1

    def of(self, step: Step) -> Tensor | None:
        """The last weights of the tasks of a step; None where some task has had none."""
        if not self.knows("last"):
            return None
        if self._had is None:
            missing = self.last.isnan().reshape(-1, self.last.shape[-1]).any(0).tolist()
            self._had = {k for k, none in enumerate(missing) if not none}
        here = step.positions
        if not self._had.issuperset(range(self.tasks) if here is None else here):
            return None
        return self.last if here is None else self.last[..., list(here)]

    def _reused(self, step: Step) -> Tensor | None:
        if self.frozen:
            weights = self.of(step)
            if weights is None:
                raise RuntimeError(
                    f"frozen() keeps the last weights, and some of the tasks {', '.join(step.names)} have "
                    "had none"
                )
            return weights
        return self.of(step) if self.phase else None

    def blind(self, step: Step) -> bool:
        """See :meth:`Rule.blind`."""
        return self._reused(step) is not None or self.inner.blind(step)

    def forward(self, step: Step, gradients: TaskGradients) -> Outcome:
        """See :meth:`Rule.forward`."""
        weights = self._reused(step) if self.frozen or self.every > 1 else None
        if self.every > 1 and not self.frozen:
            self.phase = (self.phase + 1) % self.every
        if weights is not None:
            return Outcome(weights, None, gradients)
        try:
            outcome: Outcome = self.inner(step, gradients)
        except SolverError:
            weights = self.of(step) if self.on_failure == "keep" else None
            if weights is None:
                raise
            self.count_failure()
            return Outcome(weights, None, gradients)
        assert outcome.weights is not None
        self._remember(outcome.weights, step)
        return outcome

    def _remember(self, weights: Tensor, step: Step) -> None:
        if step.positions is None:
            self.last = weights.clone()
            self._had = set(range(self.tasks))
            return
        whole = weights.new_full((*weights.shape[:-1], self.tasks), torch.nan)
        if self.knows("last"):
            whole.copy_(self.last)
        whole[..., list(step.positions)] = weights
        self.last = whole
        self._had = (self._had or set()).union(step.positions)

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        self._had = None
        super()._load_from_state_dict(*args, **options)


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
        outcome: Outcome = self.inner(step, gradients)
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
        outcome: Outcome = self.inner(step, gradients)
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
        outcome: Outcome = self.inner(step, gradients)
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
        self.share = _share("gradient_ema", share)

    def blind(self, step: Step) -> bool:
        """See :meth:`Rule.blind`; the average has to see every step."""
        return self.kept is not None and self.kept.frozen

    def forward(self, step: Step, gradients: TaskGradients) -> Outcome:
        """See :meth:`Rule.forward`.

        Raises:
            ValueError: the step has other shared parameters than the last one.
        """
        if self.kept is not None and self.kept.frozen:
            return self.inner(step, gradients)  # type: ignore[no-any-return]
        refuse_nonfinite(step, gradients)
        changed = gradients.changed(lambda rows: self._averaged(rows, step))
        changed.taken()
        return self.inner(step, changed)  # type: ignore[no-any-return]

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
    """Every parameter tensor by itself, with weights of its own."""

    def forward(self, step: Step, gradients: TaskGradients) -> Outcome:
        """See :meth:`Rule.forward`; the weights shown are the mean over the entries of the model."""
        whole = ByTensor(gradients)
        outcome: Outcome = self.inner(step, whole)
        assert outcome.weights is not None
        shown = whole.shares().to(outcome.weights) @ outcome.weights
        return Outcome(shown, whole.combine(outcome.weights), gradients)


def priors_of(prior: Prior, step: Step) -> list[float]:
    """The preference for every task of a step.

    Raises:
        ValueError: one is not positive.
    """
    values = []
    for name in step.names:
        given = prior.get(name, 1.0)
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


def _share(option: str, share: float) -> float:
    if not 0 <= share < 1:
        raise ValueError(f"{option}={share}: the share of the past is in [0, 1)")
    return share
