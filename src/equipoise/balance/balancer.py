"""Balancer: named losses in, one scalar out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import torch
from torch import Tensor, nn

from equipoise.balance.beside import Beside
from equipoise.balance.compose import Blocks, HeadRule, Memory, Options, Route
from equipoise.balance.mistakes import as_method
from equipoise.balance.naming import Losses
from equipoise.balance.reading import Checks, NonFinite, Transform
from equipoise.balance.reuse import OnFailure
from equipoise.balance.rule import Rule
from equipoise.balance.shaping import Prior, WeightSum
from equipoise.balance.together import Weight
from equipoise.gradients.features import Features, Share, Views
from equipoise.gradients.ranks import Sync, ranks
from equipoise.methods.base import Method


class Balancer(Beside):
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
        window: calls whose gradients accumulate to one optimiser step. Their weights are found once, from the
            mean losses and mean inner products of the window before; 1: every call has weights of its own.
        nonfinite: what to do about a loss that is NaN or infinite. A task gradient that is not finite
            although its loss is raises whatever this says.
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
            process with the whole batch. ``"gramian"``: inner products of task gradients only, so that the
            parameters route sends K x K numbers instead of K gradients. ``"local"``: nothing; each weighs by
            its own batch.
        memory: ``"low"`` keeps no task gradient on the parameters route: inner products are added up section
            by section of the trunk, and the weighted sum is one backward pass more. For methods that balance
            by inner products alone.
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
        window: int = 1,
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
        memory: Memory = "fast",
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
            ("memory", memory, Memory),
            ("checks", checks, Checks),
        ):
            if value not in get_args(kind):
                known = ", ".join(map(repr, get_args(kind)))
                raise ValueError(f"{name}={value!r} is none of {known}")
        if update_every < 1:
            raise ValueError(
                f"update_every={update_every}: new weights are taken every 1 or more steps"
            )
        if window < 1:
            raise ValueError(f"window={window}: a window has 1 or more calls")
        if checks == "deferred" and nonfinite != "raise":
            raise ValueError(
                f"nonfinite={nonfinite!r} has to know whether a loss is finite before it is used, which "
                "checks='deferred' does not; use checks='now'"
            )
        super().__init__(
            as_method(method, options, seed),
            Options(
                dict(prior or {}),
                route,
                heads,
                weight_sum,
                update_every,
                window,
                on_failure,
                weight_ema,
                weight_floor,
                weight_cap,
                gradient_ema,
                blocks,
                sync,
                memory,
            ),
            shared,
            nonfinite,
            transform,
            checks,
            self_optimized,
            tasks,
        )

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
        share = self._taken_share()
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
        share = self._taken_share()
        together = ranks(self._options.sync)
        steps = self._enter((losses, *more), together, weight)
        if steps is None:
            return torch.zeros(())
        factor = None
        if scaler is not None:
            factor = float(scaler.scale(torch.ones((), device=steps[-1].values.device)))
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
            RuntimeError: there are no weights to keep; in a call, one of them is negative.
        """
        with self.pipeline.keeping():
            yield
