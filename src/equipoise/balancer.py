"""Balancer: named losses in, one scalar out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from equipoise.admission import Admission, NonFinite, Transform, processes
from equipoise.bilevel import descend, learn_weights
from equipoise.learning import Learning
from equipoise.methods.base import (
    BilevelMethod,
    GramianMethod,
    Heads,
    JacobianMethod,
    Method,
)
from equipoise.methods.catalogue import find
from equipoise.methods.catalogue import method as build
from equipoise.methods.forum import FORUM
from equipoise.monitor import explanation, untouched
from equipoise.routes.features import Features, Share, Views
from equipoise.routes.shared import SharedParameters
from equipoise.routes.tasks import Losses, named, step_of
from equipoise.routing import Route, Routing
from equipoise.smoothing import Smoothing
from equipoise.weighing import Blocks, OnFailure, Prior, Weighing, WeightSum

HeadRule = Literal["paper", "weighted", "unweighted"]


class Balancer(nn.Module):
    r"""Balances the losses of a multi-task network: ``loss = balancer(losses)``.

    ``loss.backward()`` then leaves in every parameter's ``.grad`` what the method prescribes, so that
    clipping, accumulation, loss scaling, schedulers and trainers go on as before.

    Args:
        method: id of a method, as ``equipoise.methods()`` lists them, or a method object.
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
        seed: of the random draws; None follows ``torch.manual_seed``.
        options: the method's own options.

    Raises:
        ValueError: an unknown method or option, or options that contradict each other.
    """

    def __init__(
        self,
        method: str | Method = "ew",
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
        blocks: Literal["paper", "model", "parameter"] = "paper",
        seed: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        for name, value, kind in (
            ("route", route, Route),
            ("heads", heads, HeadRule),
            ("weight_sum", weight_sum, WeightSum),
            ("nonfinite", nonfinite, NonFinite),
            ("on_failure", on_failure, OnFailure),
            ("transform", transform, Transform),
            ("blocks", blocks, Literal["paper", "model", "parameter"]),
        ):
            if value not in get_args(kind):
                raise ValueError(
                    f"{name}={value!r} is none of {', '.join(map(repr, get_args(kind)))}"
                )
        if update_every < 1:
            raise ValueError(
                f"update_every={update_every}: new weights are taken every 1 or more steps"
            )
        self.method = _method(method, options, seed)
        self.card = self.method.card
        self.route: Route = route
        self.weight_sum: WeightSum = weight_sum
        self.update_every = update_every
        self.heads: Heads = self.card.heads if heads == "paper" else heads
        if isinstance(self.method, JacobianMethod):
            for name, given in (
                ("heads='weighted'", heads == "weighted"),
                ("update_every", update_every > 1),
            ):
                if given:
                    raise ValueError(
                        f"'{self.card.id}' has no loss weights, which {name} would need"
                    )
        self.prior = dict(prior or {})
        self.tasks: tuple[str, ...] | None = None
        self._numbered = isinstance(tasks, int)
        self._share: Share | None = None
        self._learning = Learning(self.method, self_optimized)
        smoothing = Smoothing(weight_ema, gradient_ema, weight_floor, weight_cap)
        smoothing.check(self.method)
        chosen: Blocks = getattr(self.method, "blocks", "model") if blocks == "paper" else blocks
        if chosen == "parameter":
            self._refuse_blocks(weight_ema > 0 or update_every > 1)
        self._weighing = Weighing(
            self.method, self.prior, weight_sum, update_every, on_failure, smoothing, chosen
        )
        self._record = self._weighing.record
        self._routing = Routing(
            self.method, route, self.heads, SharedParameters(shared), self._weighing, self._learning
        )
        self._admission = Admission(
            self.method,
            nonfinite,
            transform,
            self._routing.scales_losses,
            self._weighing,
            self._learning,
            self._name,
        )
        if tasks is not None:
            self._name(tuple(map(str, range(tasks))) if isinstance(tasks, int) else tuple(tasks))

    # --- the calls of a training loop -------------------------------------------------------------

    def forward(self, losses: Losses, *more: Losses) -> Tensor:
        """The balanced loss: a scalar whose ``backward()`` leaves the method's gradient everywhere.

        In ``eval()`` it is the sum of the losses, weighted by the prior, and no state changes.

        Args:
            losses: scalar tensors by task name, or in the order of the tasks; None (or a missing name)
                where a task is absent. A stacked ``Tensor[K]`` only for methods that look at losses.
            more: the losses of further independent batches, for methods that need them (MoDo, SDMGrad);
                the last batch makes the step.

        Raises:
            ValueError: a loss without a graph, an unknown task, a loss that is not finite or (for methods
                that take its logarithm) not positive; nothing is shared.
            SolverError: a solver failed and ``on_failure`` is ``"raise"``.
        """
        share, self._share = self._share, None
        steps = self._admission.enter((losses, *more), self.training)
        if steps is None:
            return torch.zeros((), requires_grad=True)
        if not self.training:
            return self._weighing.plain(steps[-1])
        total = self._routing.scalar(steps, share)
        self._weighing.step += 1
        return total

    def backward(
        self, losses: Losses, *more: Losses, scaler: torch.amp.GradScaler | None = None
    ) -> Tensor:
        """Balances and writes ``.grad`` at once: the same gradients, the graph freed at the last task.

        Args:
            losses: as in :meth:`forward`.
            more: as in :meth:`forward`.
            scaler: the ``GradScaler`` of mixed precision training, if there is one.

        Returns:
            The value of the balanced loss, detached.

        Raises:
            RuntimeError: several processes train together, whose gradients would not be averaged.
        """
        if processes() > 1:
            raise RuntimeError(
                "balancer.backward() writes .grad itself, which no other process would see; use "
                "balancer(losses).backward()"
            )
        if not self.training:
            raise RuntimeError("balancer.backward() trains; call balancer.train() first")
        share, self._share = self._share, None
        steps = self._admission.enter((losses, *more), training=True)
        if steps is None:
            return torch.zeros(())
        factor = 1.0 if scaler is None else float(scaler.scale(torch.ones(())))
        total = self._routing.backward(steps, share, factor)
        self._weighing.step += 1
        return total

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
        if self.training and torch.is_grad_enabled() and not self._routing.scales_losses:
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
        self._admission.patience = -1
        with untouched(), torch.no_grad():
            present = named(closure(), self.tasks)
        step = step_of(present, self.tasks or tuple(present))
        step = self._admission.transformed(step)
        with self._weighing.only(step):
            self.method.after_step(step.values)

    def bilevel(self, inner: Callable[[], Losses], outer: Callable[[], Losses]) -> Tensor:
        """The balanced loss of a method that learns its weights on outer losses (MOML, FORUM).

        Args:
            inner: computes the losses of the training batch.
            outer: computes the losses of a validation batch.

        Returns:
            A scalar to call ``backward()`` on, as :meth:`forward` gives it.

        Raises:
            TypeError: the method has no outer losses.
        """
        if not isinstance(self.method, BilevelMethod):
            raise TypeError(
                f"'{self.card.id}' learns nothing on outer losses; call balancer(losses)"
            )
        if not self.training:
            return self.forward(inner())

        def all_of(closure: Callable[[], Losses]) -> list[Tensor]:
            step = self._admission.read(closure(), training=True)
            if step.index is not None:
                raise ValueError(f"'{self.card.id}' needs the losses of all tasks in every step")
            return step.tensors

        if isinstance(self.method, FORUM):
            total, values = descend(self.method, lambda: all_of(inner), lambda: all_of(outer))
            step = step_of(
                dict(zip(self.tasks or (), values.unbind(), strict=True)), self.tasks or ()
            )
            self._record.step(step, self.method.weights(values), None)
            self._weighing.step += 1
            return total
        learn_weights(self.method, lambda: all_of(inner), lambda: all_of(outer))
        return self.forward(inner())

    def sharpness_aware(
        self,
        closure: Callable[[], Losses],
        *,
        rho: float = 0.05,
        local: float = 0.1,
        eps: float = 1e-3,
    ) -> Tensor:
        """The balanced loss with task gradients of perturbed parameters behind it (SAMO).

        Works around every method that needs one batch. Each step costs K + 1 backward passes and 3 K + 1
        forward passes (K + 1 with ``local=0``), all of the same batch.

        Args:
            closure: computes the losses of the batch; it is called repeatedly.
            rho: length of the perturbation uphill.
            local: share of the task's own gradient in it, estimated from two forward passes a task.
            eps: step of that estimate.

        Raises:
            ValueError: a task is absent, or a number is out of its range.
        """
        if not self.training:
            return self.forward(closure())
        if rho <= 0 or eps <= 0 or not 0 <= local <= 1:
            raise ValueError(
                f"rho={rho} and eps={eps} must be positive and local={local} in [0, 1]"
            )
        steps = self._admission.enter([closure()], training=True)
        if steps is None:
            return torch.zeros((), requires_grad=True)
        (step,) = steps

        def again() -> list[Tensor]:
            present = named(closure(), self.tasks)
            if tuple(present) != step.names:
                raise ValueError("the closure must give the losses of the same tasks every time")
            return self._admission.transformed(step_of(present, self.tasks or ())).tensors

        total = self._routing.uphill(step, again, rho, local, eps)
        self._weighing.step += 1
        return total

    def end_epoch(self) -> None:
        """For methods that work with epoch means (DWA); else does nothing."""
        self._admission.patience = -1
        self.method.end_epoch()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Keeps the last weights while it lasts, for closures that are called repeatedly (LBFGS)."""
        if self._weighing.last is None:
            raise RuntimeError(
                "frozen() keeps the last weights, and there are none before the first step"
            )
        self._weighing.frozen, before = True, self._weighing.frozen
        try:
            yield
        finally:
            self._weighing.frozen = before

    # --- what it shows ----------------------------------------------------------------------------

    @property
    def weights(self) -> dict[str, float]:
        """The weights applied last, by task; empty before, and for methods that have no weights."""
        return self._record.weights()

    @property
    def raw_total(self) -> Tensor:
        """The unweighted sum of the last losses, detached: what schedulers and early stopping should see."""
        return self._record.raw_total()

    def metrics(self, prefix: str = "balance/") -> dict[str, float]:
        """Weights applied, raw losses and, for gradient methods, norms and cosines, of the last step.

        Args:
            prefix: put before every name.
        """
        return self._record.metrics(prefix)

    def param_groups(self, **options: Any) -> list[dict[str, Any]]:
        """Parameter groups for your optimiser: learnable weights, without weight decay; else empty.

        Args:
            options: of the optimiser, such as ``lr``.
        """
        return self._learning.param_groups(self.tasks, options)

    def explain(self) -> str:
        """What is in force: method, tasks, shared parameters, route, cost, what the heads get."""
        return explanation(self)

    # --- saving -----------------------------------------------------------------------------------

    def get_extra_state(self) -> dict[str, Any]:
        """What ``state_dict`` holds besides the method's own state."""
        return {
            "tasks": self.tasks,
            "step": self._weighing.step,
            "last": self._weighing.last,
            "learning": self._learning.state(),
            "record": self._record.state(),
            "smoothing": self._weighing.smoothing.state(),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restores it."""
        if state["tasks"] is not None:
            if self.tasks is None:
                self._name(tuple(state["tasks"]))
            elif self.tasks != tuple(state["tasks"]):
                raise ValueError(
                    f"the saved balancer has the tasks {state['tasks']}, this one {self.tasks}"
                )
        self._weighing.step = state["step"]
        self._weighing.last = state["last"]
        self._learning.restore(state["learning"])
        self._record.restore(state["record"])
        self._weighing.smoothing.restore(state["smoothing"])

    # --- inside -----------------------------------------------------------------------------------

    def _refuse_blocks(self, keeps_weights: bool) -> None:
        if not isinstance(self.method, GramianMethod) or not self.method.reads_gramian:
            raise ValueError(
                f"'{self.card.id}' does not look at inner products of task gradients, so there is nothing to "
                "do block by block"
            )
        if self.heads == "weighted" or keeps_weights:
            raise ValueError(
                "with blocks='parameter' every tensor has weights of its own, so the heads cannot be "
                "weighted, and weight_ema and update_every do not apply"
            )

    def _name(self, tasks: tuple[str, ...]) -> None:
        if not tasks or len(set(tasks)) < len(tasks):
            raise ValueError(f"tasks must be different names, at least one; got {list(tasks)}")
        for name in self.prior:
            if name not in tasks:
                raise ValueError(
                    f"prior names '{name}', which is no task; the tasks are {', '.join(tasks)}"
                )
        self.tasks = self._admission.tasks = tasks
        self._weighing.tasks = len(tasks)
        self.method.begin(len(tasks))


def _method(method: str | Method, options: dict[str, Any], seed: int | None) -> Method:
    if isinstance(method, Method):
        if options or seed is not None:
            given = ", ".join([*options, *(["seed"] if seed is not None else [])])
            raise ValueError(f"{given}: give the options to the method object itself")
        return method
    # A seed is always accepted: methods that draw nothing have no use for it.
    if seed is not None and "seed" in inspect.signature(find(method)).parameters:
        options["seed"] = seed
    return build(method, **options)
