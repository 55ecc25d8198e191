"""Wrappers that remember weights: their average, and the last ones for steps without new ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from equipoise.balance.rule import Outcome, Rule, Wrapper, share_of_past
from equipoise.gradients.base import TaskGradients
from equipoise.gradients.step import Step
from equipoise.solvers import SolverError

OnFailure = Literal["raise", "keep"]


def refuse_negative(names: Sequence[str], weights: Sequence[float], method: str) -> None:
    """Raises for kept weights of which one is negative, by more than a solver's rounding.

    Raises:
        RuntimeError: naming the task.
    """
    low = min(weights)
    if low < -1e-6 * max(weights):
        raise RuntimeError(
            f"frozen() keeps the last weights, and '{method}' gave task "
            f"'{names[list(weights).index(low)]}' {low:.3g}: a closure would drive its loss up without "
            "end, since a sum with a negative weight has no minimum. Use weight_floor=0, or a method "
            "without negative weights"
        )


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
        self.share = share_of_past("weight_ema", share)

    def forward(self, step: Step, gradients: TaskGradients) -> Outcome:
        """See :meth:`Rule.forward`."""
        outcome = self.inner.forward(step, gradients)
        new = outcome.weights
        assert new is not None
        with self.seeing(self, step):
            if not self.knows("mean"):
                self.mean = new.clone()
            else:
                last = self.recall("mean", new)
                self.mean = torch.where(
                    last == new, new, self.share * last + (1 - self.share) * new
                )
            return outcome._replace(weights=self.mean)


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
            outcome: Outcome = self.inner.forward(step, gradients)
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
            self.last = weights
            if self._had is None or len(self._had) < self.tasks:
                self._had = set(range(self.tasks))
            return
        whole = weights.new_full((*weights.shape[:-1], self.tasks), torch.nan)
        if self.knows("last"):
            whole.copy_(self.last)
        whole[..., list(step.positions)] = weights
        self.last = whole
        self._had = (self._had or set()).union(step.positions)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # A method may have given out its own state, and tensors that are saved share no memory.
        if prefix + "last" in destination:
            destination[prefix + "last"] = destination[prefix + "last"].clone()

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        self._had = None
        super()._load_from_state_dict(*args, **options)
