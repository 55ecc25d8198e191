"""What stands between the calls of a balancer: its parts, what they show, and what is saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.balance.compose import Options
from equipoise.balance.mistakes import PATIENCE, agreed, reminded
from equipoise.balance.naming import Losses, names_of
from equipoise.balance.pipeline import Pipeline
from equipoise.balance.reading import Checks, NonFinite, Reader, Transform
from equipoise.balance.report import explanation
from equipoise.balance.rule import Rule
from equipoise.balance.together import Weight
from equipoise.gradients.features import Share
from equipoise.gradients.ranks import Ranks
from equipoise.gradients.shared import SharedParameters
from equipoise.gradients.step import Step
from equipoise.methods.base import Card, Method
from equipoise.methods.state import Stateful


class Standing(Stateful):
    """The parts of a balancer.

    Attributes:
        reader: what gets into a step.
        pipeline: from there to gradients.
    """

    def __init__(
        self,
        method: Method | Rule,
        options: Options,
        shared: nn.Module | Sequence[Tensor] | None,
        nonfinite: NonFinite,
        transform: Transform,
        checks: Checks,
        self_optimized: bool | float,
        tasks: Sequence[str] | int | None,
    ) -> None:
        super().__init__()
        self._options = options
        self.pipeline = Pipeline(
            method,
            options,
            SharedParameters(shared),
            self_optimized,
            deferred=checks == "deferred",
        )
        self.reader = Reader(
            self.method, nonfinite, transform, checks, stacked=self.pipeline.scales_losses
        )
        self._share: Share | None = None
        self._numbered = isinstance(tasks, int)
        # Steps left for the call that the method waits for; negative when it need not come.
        self._patience = PATIENCE if self.method.awaits else -1
        # Whether the first rank's state has yet to be taken.
        self._fresh = True
        # How many examples this process had in the last step.
        self._weight: Weight = None
        if tasks is None:
            for module in self.modules():
                if isinstance(module, Stateful):
                    module.come_late()
        else:
            self._name(tuple(map(str, range(tasks))) if isinstance(tasks, int) else tuple(tasks))

    # --- what it shows ----------------------------------------------------------------------------

    @property
    def method(self) -> Method:
        """The published method inside."""
        return self.pipeline.rule.method

    @property
    def card(self) -> Card:
        """The facts about the method."""
        return self.method.card

    @property
    def tasks(self) -> tuple[str, ...] | None:
        """The names of the tasks; None before they are known."""
        return self.reader.tasks

    @property
    def weights(self) -> dict[str, float]:
        """The weights applied last, by task; empty before, and for methods that have no weights."""
        return self.pipeline.shown.weights_by_task()

    @property
    def gramian(self) -> Tensor | None:
        """Inner products of the last step's task gradients, ``Tensor[K, K]``; None where none were taken."""
        return self.pipeline.shown.gramian

    @property
    def raw_total(self) -> Tensor:
        """The unweighted sum of the last losses, detached: what schedulers and early stopping should see."""
        return self.pipeline.shown.raw_total()

    def metrics(self, prefix: str = "balance/") -> dict[str, float]:
        """Weights applied, raw losses and, for gradient methods, norms and cosines, of the last step.

        Args:
            prefix: put before every name.
        """
        found = self.pipeline.metrics() | self.reader.metrics()
        return {prefix + name: value for name, value in found.items()}

    def param_groups(self, **options: Any) -> list[dict[str, Any]]:
        """Parameter groups for your optimiser: learnable weights, without weight decay; else empty.

        Args:
            options: of the optimiser, such as ``lr``.
        """
        return self.pipeline.learning.param_groups(self.tasks, options)

    def explain(self) -> str:
        """What is in force: method, tasks, shared parameters, route, cost, what the heads get."""
        pipeline = self.pipeline
        learned_by = pipeline.learning.by
        return explanation(
            self.method, self.tasks, pipeline.heads, pipeline.shown, self._options, learned_by
        )

    # --- inside -----------------------------------------------------------------------------------

    def _name(self, tasks: tuple[str, ...]) -> None:
        self.reader.name(tasks)
        for name in self._options.prior:
            if name not in tasks:
                raise ValueError(
                    f"prior names '{name}', which is no task; the tasks are {', '.join(tasks)}"
                )
        self.pipeline.allocate(len(tasks))

    def _plain(self, losses: Losses) -> Tensor:
        if self.tasks is None:
            self._name(names_of(losses))
        return self.pipeline.plain(self.reader.plain(losses))

    def _taken_share(self) -> Share | None:
        """The features that wait for this call."""
        share = self._share
        if share is not None:
            self._share = None
        return share

    def _enter(
        self, batches: Sequence[Losses], together: Ranks | None, weight: Weight
    ) -> list[Step] | None:
        """The admitted steps of all batches; None where the step is to be skipped."""
        if self.tasks is None:
            self._name(agreed(names_of(batches[0]), together))
        number = self.pipeline.number
        if weight is not self._weight:
            self._weight = weight
        steps = self.reader.enter(batches, number, together, weight, fresh=self._fresh)
        if steps is None:
            return None
        if together is not None and any(step.fresh for step in steps):
            self._take_first(together)
            steps = [step._replace(number=self.pipeline.number) for step in steps]
        if not torch.compiler.is_compiling():
            self.pipeline.learning.watch(steps[-1].present)
            if self._patience >= 0:
                self._patience = reminded(self._patience, self.method)
        return steps

    def _take_first(self, together: Ranks) -> None:
        """Takes the first rank's state, so that what is drawn and learned is the same everywhere."""
        mine = {k: v.cpu() for k, v in self.state_dict().items()} if together.rank == 0 else {}
        state: dict[str, Any] = together.first(mine)
        if together.rank != 0:
            self.load_state_dict(state)
        self._fresh = False

    # --- copying and saving -----------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        # Features wait for the losses of one network, and a graph cannot be copied.
        return {**self.__dict__, "_share": None}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(prefix + "reader.task_names")
        if saved is not None:
            tasks = tuple(bytes(saved.tolist()).decode().split("\0"))
            if self.tasks is None:
                self._name(tasks)
            elif self.tasks != tasks:
                raise ValueError(f"the saved balancer has the tasks {tasks}, this one {self.tasks}")
        self._fresh = True
        super()._load_from_state_dict(state_dict, prefix, *args)
