"""From a method to the weights that are applied: prior, sum, reuse, absent tasks, failed solvers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from equipoise.methods.base import (
    CrossBatchMethod,
    GramianMethod,
    JacobianMethod,
    LossMethod,
    Method,
)
from equipoise.monitor import Record
from equipoise.routes.gramian import gramian as gramian_of
from equipoise.routes.tasks import Step
from equipoise.smoothing import Smoothing
from equipoise.solvers import SolverError

WeightSum = Literal["paper", "tasks", "one"]
OnFailure = Literal["raise", "keep"]
Blocks = Literal["model", "parameter"]
Prior: TypeAlias = "Mapping[str, float | Callable[[int], float]]"


class Weighing:
    """Applies a method step by step.

    Args:
        method: the method.
        prior: preference for single tasks, multiplied on its weights.
        weight_sum: scale of the weights.
        update_every: new weights every so many steps.
        on_failure: what a failed solver means.
        smoothing: averages and bounds.
        blocks: whether one set of weights serves the whole model, or every parameter tensor has its own.

    Attributes:
        step: number of the step.
        last: the method's last weights, before prior and sum, ``Tensor[K]``; NaN for a task never seen.
        frozen: whether the last weights are used whatever the step.
        graph: the weights of this step with the graph of what learns them; None if they are old.
        record: what happened in the last step.
    """

    def __init__(
        self,
        method: Method,
        prior: Prior,
        weight_sum: WeightSum,
        update_every: int,
        on_failure: OnFailure,
        smoothing: Smoothing,
        blocks: Blocks = "model",
    ) -> None:
        self.method = method
        self.prior = prior
        self.weight_sum = weight_sum
        self.update_every = update_every
        self.on_failure = on_failure
        self.smoothing = smoothing
        self.blocks = blocks
        self.tasks = 0
        self.step = 0
        self.last: Tensor | None = None
        self.frozen = False
        self.graph: Tensor | None = None
        self.record = Record()

    def known(self, step: Step) -> bool:
        """Whether this step's weights need no task gradients."""
        if isinstance(self.method, LossMethod):
            return True
        if isinstance(self.method, GramianMethod):
            return not self.method.reads_gramian or self._kept(step) is not None
        return False

    def _kept(self, step: Step) -> Tensor | None:
        """The last weights, if this step has to use them."""
        if self.last is None or not (self.frozen or self.step % self.update_every):
            return None
        last = self.last if step.index is None else self.last[step.index]
        return None if bool(last.isnan().any()) else last

    def weights(self, step: Step) -> Tensor:
        """The applied weights of a step whose weights need no task gradients."""
        self.graph = None
        weights = self._kept(step)
        if weights is None:
            with self.only(step):
                if isinstance(self.method, LossMethod):
                    weights = self.graph = self.method.weights(step.values)
                elif isinstance(self.method, GramianMethod):
                    nothing = step.values.new_zeros(len(step.names), len(step.names))
                    weights = self.method.weights(nothing, step.values)
                else:
                    raise TypeError(f"{self.method.card.id} has no weights")
            weights = self._keep(weights, step)
        return self._applied(weights.to(step.values), step, None)

    def solve(self, gramian: Tensor, step: Step) -> Tensor:
        """The applied weights of a gradient method, given the Gramian (within or across batches)."""
        assert isinstance(self.method, GramianMethod | CrossBatchMethod)
        self._refuse_nonfinite(gramian.diagonal(), step)
        try:
            with self.only(step):
                weights = self.method.weights(gramian, step.values.double().cpu())
            weights = self._keep(weights, step)
        except SolverError:
            if self.on_failure == "raise" or self.last is None:
                raise
            weights = self.last if step.index is None else self.last[step.index]
            self.record.solver_failures += 1
        return self._applied(
            weights, step, gramian if isinstance(self.method, GramianMethod) else None
        )

    def combine(
        self, parts: list[Tensor], step: Step, known: Tensor | None, features: list[Tensor]
    ) -> list[Tensor]:
        """Task gradients ``[K, ...]``, one tensor per feature, to one gradient each."""
        if self.smoothing.gradient_ema:
            parts = [self.smoothing.of_gradients(parts[0], step, self.tasks)]
        if isinstance(self.method, JacobianMethod):
            return self._entries(self.method, parts, step, features)
        flat = [part.flatten(1) for part in parts]
        applied = known if known is not None else self.solve(gramian_of(flat), step)
        return [
            (applied.to(rows) @ rows).view(part.shape[1:])
            for rows, part in zip(flat, parts, strict=True)
        ]

    def by_block(self, jacobian: Tensor, sizes: list[int], step: Step) -> Tensor:
        """The combined gradient ``Tensor[P]`` with weights of its own for every parameter tensor.

        Args:
            jacobian: ``Tensor[K, P]``.
            sizes: entries of each tensor, P in all.
            step: the step.
        """
        assert isinstance(self.method, GramianMethod)
        rows = torch.split(self.smoothing.of_gradients(jacobian, step, self.tasks), sizes, dim=1)
        gramians = torch.stack([gramian_of([part]) for part in rows])
        total = gramians.sum(0)
        self._refuse_nonfinite(total.diagonal(), step)
        values = step.values.double().cpu().expand(len(sizes), -1)
        with self.only(step):
            weights = self.method.weights(gramians, values)
        weights = self.smoothing.bound(weights)
        if self.prior:
            weights = weights * weights.new_tensor(self.priors(step))
        if self.weight_sum != "paper":
            count = len(step.names) if self.weight_sum == "tasks" else 1
            weights = weights * (count / weights.sum(-1, keepdim=True))
        # One number a task to show: the mean over the entries of the model.
        share = weights.new_tensor(sizes) / sum(sizes)
        self.record.step(step, share @ weights, total)
        return torch.cat([w.to(part) @ part for w, part in zip(weights, rows, strict=True)])

    def _entries(
        self, method: JacobianMethod, parts: list[Tensor], step: Step, features: list[Tensor]
    ) -> list[Tensor]:
        flat = [part.flatten(1) for part in parts]
        gramian = gramian_of(flat)
        self._refuse_nonfinite(gramian.diagonal(), step)
        if self.prior:
            column = torch.tensor(self.priors(step), dtype=torch.float64).unsqueeze(1)
            flat = [column.to(rows) * rows for rows in flat]
        with self.only(step):
            if features:
                given = [rows.view(p.shape) for rows, p in zip(flat, parts, strict=True)]
                combined = method.combine_features(given, features, step.values)
                out = [c.flatten() for c in combined]
            else:
                rows = flat[0] if len(flat) == 1 else torch.cat(flat, 1)
                whole = method.combine(rows, step.values)
                out = list(torch.split(whole, [f.shape[1] for f in flat]))
        self.record.step(step, None, gramian)
        count = len(step.names)
        # A direction without weights sums K gradients in the papers; "one" makes it their mean.
        factor = 1.0 / count if self.weight_sum == "one" else 1.0
        return [(o * factor).view(p.shape[1:]) for o, p in zip(out, parts, strict=True)]

    def _refuse_nonfinite(self, squares: Tensor, step: Step) -> None:
        finite = [math.isfinite(square) for square in squares.tolist()]
        if not all(finite):
            bad = [repr(n) for n, ok in zip(step.names, finite, strict=True) if not ok]
            raise ValueError(
                f"the gradient of loss {', '.join(bad)} is not finite although the loss is; common causes "
                "are sqrt or log at 0 and overflow in half precision"
            )

    def _keep(self, weights: Tensor, step: Step) -> Tensor:
        """The weights, averaged, and remembered before prior and sum for steps that reuse them."""
        weights = weights.detach()
        if step.index is None:
            self.last = weights = self.smoothing.of_weights(weights, self.last)
            return weights
        whole = weights.new_full((self.tasks,), torch.nan)
        if self.last is not None:
            whole.copy_(self.last)
        weights = self.smoothing.of_weights(weights, whole[step.index])
        whole[step.index] = weights
        self.last = whole
        return weights

    def _applied(self, weights: Tensor, step: Step, gramian: Tensor | None) -> Tensor:
        """The method's weights in bounds, times the prior, brought to the sum that was asked for."""
        weights = self.smoothing.bound(weights)
        if self.prior:
            weights = weights * weights.new_tensor(self.priors(step))
        if self.weight_sum != "paper":
            total = weights.sum()
            if not bool(total > 0):
                raise ValueError(
                    f"the weights of '{self.method.card.id}' sum to {float(total):.3g} in this step, "
                    f"which cannot be scaled to weight_sum='{self.weight_sum}'; use weight_sum='paper'"
                )
            weights = weights * ((len(step.names) if self.weight_sum == "tasks" else 1) / total)
        if not math.isfinite(float(weights.sum())):
            shown = ", ".join(
                f"{n} {w:.3g}" for n, w in zip(step.names, weights.tolist(), strict=True)
            )
            raise ValueError(
                f"the weights of '{self.method.card.id}' are not finite ({shown}) although the losses are; "
                "its state may have been loaded damaged, or its options do not suit losses of this size"
            )
        self.record.step(step, weights, gramian)
        return weights

    def priors(self, step: Step) -> list[float]:
        """The prior of every task present."""
        if not self.prior:
            return [1.0] * len(step.names)
        values = []
        for name in step.names:
            prior = self.prior.get(name, 1.0)
            value = float(prior(step.number) if callable(prior) else prior)
            if not value > 0:
                raise ValueError(
                    f"the prior of task '{name}' is {value}; it must be positive (leave the loss out to "
                    "switch a task off)"
                )
            values.append(value)
        return values

    def heads(self, step: Step) -> list[float]:
        """What each head's loss is multiplied with where the method's weights are not."""
        factors = self.priors(step)
        own = self.method.head_factors(step.values)
        if own is None:
            return factors
        return [p * f for p, f in zip(factors, own.tolist(), strict=True)]

    def plain(self, step: Step) -> Tensor:
        """The sum of the losses, weighted by the prior alone, with its graph."""
        if not self.prior:
            return step.stacked.sum()
        return weighted(step, step.values.new_tensor(self.priors(step)))

    @contextmanager
    def only(self, step: Step) -> Iterator[None]:
        """Lets the method see the tasks of this step only."""
        if step.index is None:
            yield
        else:
            with self.method.only(step.index, self.tasks):
                yield


def weighted(step: Step, weights: Tensor) -> Tensor:
    """The weighted sum of the losses, with its graph."""
    return torch.dot(weights.to(step.stacked), step.stacked)
