"""Balancer: named losses in, one scalar out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import torch
from torch import Tensor, nn

from equipoise.balance.bilevel import Skip, descend, learn_weights
from equipoise.balance.compose import Blocks, HeadRule, Options, Route
from equipoise.balance.mistakes import PATIENCE, agreed, as_method, reminded
from equipoise.balance.naming import Losses
from equipoise.balance.pipeline import Pipeline
from equipoise.balance.reading import Checks, NonFinite, Reader, Transform
from equipoise.balance.report import explanation
from equipoise.balance.reuse import OnFailure
from equipoise.balance.rule import Rule
from equipoise.balance.shaping import Prior, WeightSum
from equipoise.balance.together import Weight
from equipoise.gradients.features import Features, Share, Views
from equipoise.gradients.lookahead import untouched
from equipoise.gradients.perturbed import Uphill
from equipoise.gradients.ranks import Ranks, Sync, ranks
from equipoise.gradients.shared import SharedParameters
from equipoise.gradients.step import Step
from equipoise.methods.base import BilevelMethod, Card, CrossBatchMethod, Method
from equipoise.methods.forum import FORUM


class Balancer(nn.Module):
    r"""Balances the losses of a multi-task network: ``loss = balancer(losses)``.

    ``loss.backward()`` then leaves in every parameter's ``.grad`` what the method prescribes, so that
    clipping, accumulation, loss scaling, schedulers and trainers go on as before.

    Args:
        method: id of a method, as ``equipoise.methods()`` lists them, a method object, or a rule around one.
        tasks: names of the tasks, or their number. None takes them from the first call; needed up front
            when tasks come only later, for ``share`` and for weights that an optimiser learns.
        prior: preference for single tasks; the method's weight of a task is multiplied by it (default 1).
            A function is called with the number of the step. Where the heads are not weighted by the
            method, they get the prior alone.
        shared: module or parameters that count as shared. None finds them: those that two losses reach.
        route: where task gradients are taken. ``"auto"``: at the features if :meth:`share` was called in
            this step, else at the parameters. Methods that look at losses only need neither.
        heads: what the task heads get: the gradient of the weighted loss, of the plain loss, or what the
            method's paper does.
        weight_sum: scale of the weights: the paper's, summing to the number of tasks, or to one.
        update_every: new weights every so many calls; the last ones in between.
        nonfinite: what to do about a loss that is NaN or infinite.
        on_failure: what to do when a solver fails: raise, or keep the last weights and count it in
            :meth:`metrics`.
        self_optimized: weights that are learned are stepped by an Adam of the balancer's own; a number
            is its learning rate (True: 0.01).
        transform: ``"log"`` balances the logarithms of the losses, which divides every task gradient by
            its loss.
        weight_ema: share of the last weights in the new ones.
        weight_floor: no weight of the method is below.
        weight_cap: no weight of the method is above.
        gradient_ema: share of the last task gradients in the new ones; only with the parameters route.
        blocks: whether a Gramian method has one set of weights for the whole model (``"model"``) or one
            for every parameter tensor (``"parameter"``).
        sync: what processes that train together share. ``"exact"``: as much as makes them equal to one
        process
            with the whole batch. ``"gramian"``: inner products of task gradients only, so that the parameters
            route sends K x K numbers instead of K gradients. ``"local"``: nothing; each weighs by its own
            batch.
        checks: whether losses are looked at before they are used, or a step later (``"deferred"``), which
            spares the wait for a device.
        seed: of the random draws; None follows ``torch.manual_seed``.
        options: the method's own options.

    Raises:
        ValueError: an unknown method or option, or options that contradict each other.
    """

    def __init__(
        self,
        method: str | Method | Rule = "ew",
        tasks: Sequence[str] | int | None = None,
        *,
        prior: Prior | None = None,
        shared: nn.Module | Sequence[Tensor] | None = None,
        route: Route = "auto",
        heads: HeadRule = "paper",
        weight_sum: WeightSum = "paper",
        update_every: int = 1,
        nonfinite: NonFinite = "raise",
        on_failure: OnFailure = "raise",
        self_optimized: bool | float = False,
        transform: Transform = "none",
        weight_ema: float = 0.0,
        weight_floor: float | None = None,
        weight_cap: float | None = None,
        gradient_ema: float = 0.0,
        blocks: Blocks = "paper",
        sync: Sync = "exact",
        checks: Checks = "now",
        seed: int | None = None,
        **options: Any,
    ) -> None:
        for name, value, kind in (
            ("route", route, Route),
            ("heads", heads, HeadRule),
            ("weight_sum", weight_sum, WeightSum),
            ("nonfinite", nonfinite, NonFinite),
            ("on_failure", on_failure, OnFailure),
            ("transform", transform, Transform),
            ("blocks", blocks, Blocks),
            ("sync", sync, Sync),
            ("checks", checks, Checks),
        ):
            if value not in get_args(kind):
                known = ", ".join(map(repr, get_args(kind)))
                raise ValueError(f"{name}={value!r} is none of {known}")
        if update_every < 1:
            raise ValueError(
                f"update_every={update_every}: new weights are taken every 1 or more steps"
            )
        if checks == "deferred" and nonfinite != "raise":
            raise ValueError(
                f"nonfinite={nonfinite!r} has to know whether a loss is finite before it is used, which "
                "checks='deferred' does not; use checks='now'"
            )
        super().__init__()
        self._options = Options(
            dict(prior or {}),
            route,
            heads,
            weight_sum,
            update_every,
            on_failure,
            weight_ema,
            weight_floor,
            weight_cap,
            gradient_ema,
            blocks,
            sync,
        )
        made = as_method(method, options, seed)
        self.pipeline = Pipeline(
            made,
            self._options,
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
        if tasks is not None:
            self._name(tuple(map(str, range(tasks))) if isinstance(tasks, int) else tuple(tasks))

    # --- the calls of a training loop -------------------------------------------------------------

    def forward(self, losses: Losses, *more: Losses, weight: Weight = None) -> Tensor:
        """The balanced loss: a scalar whose ``backward()`` leaves the method's gradient everywhere.

        In ``eval()`` it is the sum of the losses, weighted by the prior, and no state changes.

        Args:
            losses: scalar tensors by task name, or in the order of the tasks; None (or a missing name)
                where a task is absent. A stacked ``Tensor[K]`` only for methods that look at losses.
            more: the losses of further independent batches, for methods that need them (MoDo, SDMGrad);
                the last batch makes the step.
            weight: where several processes have batches of different size, how many examples this one has; a
                mapping says it task by task.

        Raises:
            ValueError: a loss without a graph, an unknown task, a loss that is not finite or (for methods
                that take its logarithm) not positive; nothing is shared.
            SolverError: a solver failed and ``on_failure`` is ``"raise"``.
        """
        share, self._share = self._share, None
        if not self.training:
            return self._plain(losses)
        together = ranks(self._options.sync)
        steps = self._enter((losses, *more), together, weight)
        if steps is None:
            return torch.zeros((), requires_grad=True)
        return self.pipeline.balanced(steps, share, together, keep_graph=True)

    def backward(
        self,
        losses: Losses,
        *more: Losses,
        weight: Weight = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> Tensor:
        """Balances and writes ``.grad`` at once: the same gradients, the graph freed at the last task.

        Args:
            losses: as in :meth:`forward`.
            more: as in :meth:`forward`.
            weight: as in :meth:`forward`.
            scaler: the ``GradScaler`` of mixed precision training, if there is one.

        Returns:
            The value of the balanced loss, detached.

        Raises:
            RuntimeError: in evaluation mode.
        """
        if not self.training:
            raise RuntimeError("balancer.backward() trains; call balancer.train() first")
        share, self._share = self._share, None
        together = ranks(self._options.sync)
        steps = self._enter((losses, *more), together, weight)
        if steps is None:
            return torch.zeros(())
        factor = None if scaler is None else float(scaler.scale(torch.ones(())))
        total = self.pipeline.balanced(steps, share, together, keep_graph=False, factor=factor)
        torch.autograd.backward(total)
        return self.pipeline.value(steps[-1])

    def share(self, features: Features) -> Any:
        """One view of the shared features per task, through which their gradients are balanced.

        Args:
            features: what the trunk returned: a tensor, or a tuple or mapping of tensors.

        Returns:
            A mapping from task name to the task's view, in the form of ``features``; a tuple when the
            tasks are only numbered.

        Raises:
            ValueError: the tasks are not known yet, or the features have no graph.
        """
        if self.tasks is None:
            raise ValueError(
                "share() needs the tasks up front: Balancer(..., tasks=['segmentation', 'depth'])"
            )
        if self.training and torch.is_grad_enabled() and not self.pipeline.scales_losses:
            if self._share is not None:
                self._share.plan.abandon()
            self._share = Share(features, self.tasks)
            views = self._share.handed_out()
        else:
            views = Views((name, features) for name in self.tasks)
        return tuple(views.values()) if self._numbered else views

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
                return total
            with self.pipeline.keeping_failures():
                learn_weights(method, first, second, together)
        except Skip:
            return torch.zeros((), requires_grad=True)
        return self.forward(inner(), weight=weight)

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
        if self._options.route == "features":
            raise ValueError(
                "sharpness_aware() takes task gradients of perturbed parameters, which route='features' does "
                "not have"
            )
        together = ranks(self._options.sync)
        steps = self._enter([closure()], together, weight)
        # Views that the closure hands out are for its own losses; later ones must not be taken for theirs.
        self._share = None
        if steps is None:
            return torch.zeros((), requires_grad=True)
        (step,) = steps
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

    def end_epoch(self) -> None:
        """For methods that work with epoch means (DWA); else does nothing."""
        self._patience = -1
        self.method.end_epoch()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Keeps the last weights while it lasts, for closures that are called repeatedly (LBFGS).

        The heads then get the weighted loss too, whatever ``heads`` says: value and gradient have to be those
        of one function.

        Raises:
            RuntimeError: there are no weights to keep.
        """
        with self.pipeline.keeping():
            yield

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
            self._name(self.reader.names(losses))
        return self.pipeline.plain(self.reader.plain(losses))

    def _enter(
        self, batches: Sequence[Losses], together: Ranks | None, weight: Weight
    ) -> list[Step] | None:
        """The admitted steps of all batches; None where the step is to be skipped."""
        if self.tasks is None:
            self._name(agreed(self.reader.names(batches[0]), together))
        number, self._weight = self.pipeline.number, weight
        steps = self.reader.enter(batches, number, together, weight, fresh=self._fresh)
        if steps is None:
            return None
        if together is not None and any(step.fresh for step in steps):
            self._take_first(together)
            steps = [step._replace(number=self.pipeline.number) for step in steps]
        if not torch.compiler.is_compiling():
            self.pipeline.learning.watch(steps[-1].present[0])
            if self._patience >= 0:
                self._patience = reminded(self._patience, self.method)
        return steps

    def _take_first(self, together: Ranks) -> None:
        """Takes the first rank's state, so that what is drawn and learned is the same everywhere."""
        state: dict[str, Any] = together.first(self.state_dict() if together.rank == 0 else {})
        if together.rank != 0:
            self.load_state_dict(state)
        self._fresh = False

    def _all_of(
        self, closure: Callable[[], Losses], together: Ranks | None, weight: Weight
    ) -> Callable[[], Step]:
        def read() -> Step:
            if self.tasks is None:
                self._name(agreed(self.reader.names(losses := closure()), together))
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
