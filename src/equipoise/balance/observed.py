"""What a pipeline counts, shows, keeps and saves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.balance.learning import Learning
from equipoise.balance.report import Shown
from equipoise.balance.reuse import Kept, refuse_negative
from equipoise.balance.rule import Outcome, Rule
from equipoise.balance.smoothing import PerTensor
from equipoise.gradients import host
from equipoise.gradients.base import TaskGradients
from equipoise.gradients.step import Step
from equipoise.methods.base import CrossBatchMethod
from equipoise.methods.state import Stateful
from equipoise.solvers import NonFiniteError, SolverError


@dataclass
class _Steps:
    """Counts steps; beside a module, whose attributes are slow to set."""

    number: int = 0


class Observed(Stateful):
    """The rule of a pipeline, and what happened to it.

    Args:
        rule: the method with all that is around it.
        learning: of the weights, where they are learned.
        deferred: whether weights are looked at a step later.

    Attributes:
        rule: the method with all that is around it.
        learning: of the weights, where they are learned.
        shown: the last step.
    """

    def __init__(self, rule: Rule, learning: Learning, *, deferred: bool) -> None:
        super().__init__()
        self._steps = _Steps()
        self.rule = rule
        self.learning = learning
        self.shown = Shown()
        self._deferred = deferred
        # Weights of the last step that nobody has looked at yet, and their tasks.
        self._pending: tuple[tuple[str, ...], host.Later] | None = None

    def allocate(self, tasks: int) -> None:
        """See :meth:`Stateful.allocate`."""
        self.rule.allocate(tasks)
        self._write()

    @property
    def number(self) -> int:
        """The number of the next step, from 0."""
        return self._steps.number if "_steps" in self.__dict__ else 0

    def count(self) -> None:
        """Counts a step."""
        # A compiled step would be compiled anew for every number.
        if not torch.compiler.is_compiling():
            self._steps.number += 1

    # --- looking at weights -----------------------------------------------------------------------

    def look_at(self, names: tuple[str, ...], weights: Tensor) -> None:
        """Refuses weights that are not finite; a step later where reading them now would be waited for.

        Raises:
            ValueError: one of them, or of those of the last step, is not finite.
        """
        if torch.compiler.is_compiling():
            return
        if self._deferred or not host.at_hand(weights):
            self.look_back()
            self._pending = names, host.Later(weights)
        else:
            self._refuse_nonfinite(names, weights.tolist())

    def look_back(self) -> None:
        """Looks at the weights of the last step, where that was deferred.

        Raises:
            ValueError: one of them was not finite.
        """
        if self._pending is not None:
            (names, weights), self._pending = self._pending, None
            self._refuse_nonfinite(names, weights.read())

    def _refuse_nonfinite(self, names: Sequence[str], weights: list[float]) -> None:
        if not all(map(math.isfinite, weights)):
            told = ", ".join(f"{n} {w:.3g}" for n, w in zip(names, weights, strict=True))
            raise NonFiniteError(
                f"the weights of '{self.rule.method.card.id}' are not finite ({told}) although the losses "
                "are; its state may have been loaded damaged, or its options do not suit losses of this size"
            )
        if min(weights) < 0 and self.frozen:
            refuse_negative(names, weights, self.rule.method.card.id)

    # --- keeping weights --------------------------------------------------------------------------

    @property
    def frozen(self) -> bool:
        """Whether the last weights are used whatever the step."""
        kept = self.rule.kept
        return isinstance(kept, Kept) and kept.frozen

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keeps the last weights while it lasts.

        Raises:
            RuntimeError: there are none.
        """
        kept = self.rule.kept
        if not isinstance(kept, Kept) or isinstance(self.rule, PerTensor):
            raise RuntimeError(
                f"frozen() keeps the last loss weights, and '{self.rule.method.card.id}' has none here"
            )
        if not kept.knows("last"):
            raise RuntimeError(
                "frozen() keeps the last weights, and there are none before the first step"
            )
        with kept.freeze():
            yield

    @contextmanager
    def keeping_failures(self) -> Iterator[None]:
        """Lets a solver fail where the user asked for the last weights then."""
        kept = self.rule.kept
        try:
            yield
        except SolverError:
            if not isinstance(kept, Kept) or kept.on_failure == "raise":
                raise
            kept.count_failure()

    # --- showing ----------------------------------------------------------------------------------

    def metrics(self) -> dict[str, float]:
        """The last step in numbers, flat."""
        kept = self.rule.kept
        failures = kept.solver_failures if isinstance(kept, Kept) else 0
        counts = {"solver_failures": float(failures)} if failures else {}
        return self.shown.metrics() | counts

    def note(
        self,
        step: Step,
        outcome: Outcome,
        gradients: TaskGradients | None,
        route: str,
        shared: Sequence[Tensor] = (),
        how: str = "",
    ) -> None:
        """Keeps a step to be shown."""
        gramian = None
        if gradients is not None and not isinstance(self.rule.method, CrossBatchMethod):
            gramian = gradients.gramian()
        self.shown = Shown(step.names, step.raw, outcome.weights, gramian, route, shared, how)

    def note_elsewhere(self, step: Step, weights: Tensor, shared: Sequence[Tensor]) -> None:
        """Keeps a step to be shown, and counts it, that was balanced elsewhere."""
        self.count()
        how = "reached by any loss"
        self.shown = Shown(step.names, step.raw, weights, None, "parameters", shared, how)

    # --- saving and copying -----------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        # The parameters shown are another network's for a copy.
        return {**self.__dict__, "_pending": None, "shown": self.shown._replace(shared=(), how="")}

    def _written(self) -> dict[str, Tensor]:
        written = {**super()._written(), "steps": torch.tensor(self.number)}
        adam = self.learning.written() if "learning" in self.__dict__ else None
        return written if adam is None else {**written, "adam": adam}

    def _read_back(self, written: Mapping[str, Tensor]) -> None:
        super()._read_back(written)
        self._steps = _Steps(int(written["steps"]))
        if "adam" in written:
            self.learning.read(written["adam"])
