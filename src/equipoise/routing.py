"""Takes a step to its gradients: through the losses, the features or the parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from equipoise.learning import Learning
from equipoise.methods.base import CrossBatchMethod, Heads, JacobianMethod, LossMethod, Method
from equipoise.routes import parameters as by_parameters
from equipoise.routes.features import Share
from equipoise.routes.gramian import gramian as gramian_of
from equipoise.routes.shared import Found, SharedParameters
from equipoise.routes.tasks import Step
from equipoise.sharpness import uphill_gradients
from equipoise.weighing import Weighing, weighted

Route = Literal["auto", "losses", "parameters", "features"]
# The value of the balanced loss, the parameters reached, and the gradient of each.
Delivery = tuple[Tensor, list[Tensor], list[Tensor | None]]


class Routing:
    """Where a balancer's task gradients are taken.

    Args:
        method: the method.
        route: the user's choice.
        heads: what the task heads get.
        shared: finds the shared parameters.
        weighing: the weights.
        learning: of the weights, where they are learned.
    """

    def __init__(
        self,
        method: Method,
        route: Route,
        heads: Heads,
        shared: SharedParameters,
        weighing: Weighing,
        learning: Learning,
    ) -> None:
        self.method = method
        self.route = route
        self.heads = heads
        self.shared = shared
        self.weighing = weighing
        self.learning = learning
        # Whether the balanced loss is a plain weighted sum, known before any backward pass.
        self.scales_losses = isinstance(method, LossMethod) and heads == "weighted"
        if not isinstance(method, LossMethod) and route == "losses":
            raise ValueError(
                f"'{method.card.id}' looks at task gradients, which the losses route does not have; use "
                "route='parameters' or route='features'"
            )
        if route == "features":
            self._refuse_features()

    def _refuse_features(self) -> None:
        method = self.method
        if self.weighing.blocks == "parameter":
            raise ValueError(
                f"'{method.card.id}' balances every parameter tensor by itself, which features are not; use "
                "route='parameters'"
            )
        if isinstance(method, LossMethod) or "features" in method.routes:
            return
        what = (
            "different batches" if isinstance(method, CrossBatchMethod) else "one step and the next"
        )
        raise ValueError(
            f"'{method.card.id}' needs gradients that can be compared between {what}, which features, made "
            "anew for every batch, do not have; use route='parameters'"
        )

    def choose(
        self, step: Step, share: Share | None
    ) -> Literal["losses", "parameters", "features"]:
        """Where this step's gradients are taken."""
        if self.scales_losses:
            return "losses"
        if share is not None and self.route != "parameters":
            self._refuse_features()
            if self.weighing.smoothing.gradient_ema:
                raise ValueError(
                    "gradient_ema averages gradients of the same parameters over steps, which the features "
                    "route does not have; use route='parameters'"
                )
            return "features"
        if self.route == "features":
            raise ValueError(
                "route='features' balances at the shared features: call z = balancer.share(features) in "
                "every step and compute each loss from its own view z[task]"
            )
        if self.heads == "weighted" and self.weighing.known(step):
            return "losses"
        return "parameters"

    def scalar(self, steps: Sequence[Step], share: Share | None) -> Tensor:
        """The balanced loss with its graph.

        Args:
            steps: one, or three for a method that multiplies gradients of different batches.
            share: the shared features, where they were given.
        """
        route = self.choose(steps[-1], share)
        if route == "parameters":
            return by_parameters.deliver(*self._at_parameters(steps, share, keep_graph=True))
        if route == "features" and share is not None:
            return self._at_features(steps[-1], share)
        return self._at_losses(steps[-1], share)

    def backward(self, steps: Sequence[Step], share: Share | None, factor: float) -> Tensor:
        """Writes the gradients, times ``factor``, and frees the graph; gives the detached value."""
        if self.choose(steps[-1], share) == "parameters":
            value, leaves, gradients = self._at_parameters(
                steps, share, keep_graph=False, factor=factor
            )
            by_parameters.write(leaves, gradients)
            return value
        total = self.scalar(steps, share)
        torch.autograd.backward(total * factor if factor != 1.0 else total)
        return total.detach()

    def _at_losses(self, step: Step, share: Share | None) -> Tensor:
        applied = self.weighing.weights(step)
        total = weighted(step, applied)
        if share is not None:
            share.arm(step.names, [1.0] * len(step.names), None)
        graph, self.weighing.graph = self.weighing.graph, None
        if graph is None or not self.method.learns:
            return total
        priors = self.weighing.priors(step) if self.weighing.prior else None
        with self.weighing.only(step):
            return self.learning.objective(step.values, graph, priors, total)

    def _at_features(self, step: Step, share: Share) -> Tensor:
        self.shared.warn_of_bypass(step.tensors, step.names, share)
        self.weighing.record.route = "features"
        ones = [1.0] * len(step.names)
        if self.heads == "weighted":
            if self.weighing.known(step):
                applied = self.weighing.weights(step)
            else:
                parts = share.upstream(step.names, step.tensors)
                applied = self.weighing.solve(gramian_of(p.flatten(1) for p in parts), step)
            share.arm(step.names, ones, None)
            return weighted(step, applied)
        known = self.weighing.weights(step) if self.weighing.known(step) else None
        light = step.without_graph()
        features = share.features if isinstance(self.method, JacobianMethod) else []
        features = [f.detach() for f in features]
        factors = self.weighing.heads(step)
        share.arm(
            step.names,
            factors,
            lambda parts: self.weighing.combine(parts, light, known, features),
        )
        return share.noting_scale(weighted(step, step.values.new_tensor(factors)))

    def _at_parameters(
        self,
        steps: Sequence[Step],
        share: Share | None,
        *,
        keep_graph: bool,
        factor: float = 1.0,
    ) -> Delivery:
        step = steps[-1]
        found = self.shared.find(step.tensors, step.names, share)
        self.weighing.record.route = "parameters"
        self.weighing.record.shared = found.shared
        if share is not None:
            share.arm(step.names, [1.0] * len(step.names), None)
        if self.weighing.known(step):
            return self._with_known_weights(step, found, keep_graph=keep_graph, factor=factor)
        got = self._task_gradients(step, found, share, keep_graph=keep_graph, factor=factor)
        if isinstance(self.method, CrossBatchMethod):
            first, second = (
                self._task_gradients(other, found, None, keep_graph=keep_graph).jacobian.double()
                for other in steps[:-1]
            )
            applied = self.weighing.solve((first @ second.mT).cpu(), step)
            flat = applied.to(got.jacobian) @ got.jacobian
        else:
            flat = self._combined(got.jacobian, found, step)
        return self._delivery(flat, got, found, step, factor)

    def uphill(
        self, step: Step, again: Callable[[], list[Tensor]], rho: float, local: float, eps: float
    ) -> Tensor:
        """The balanced loss with the gradients of perturbed parameters behind it (SAMO)."""
        found = self.shared.find(step.tensors, step.names, None)
        got = uphill_gradients(step.tensors, again, found, rho=rho, local=local, eps=eps)
        if self.weighing.known(step):
            applied = self.weighing.weights(step)
            flat = applied.to(got.jacobian) @ got.jacobian
        else:
            flat = self._combined(got.jacobian, found, step)
        return by_parameters.deliver(*self._delivery(flat, got, found, step, 1.0))

    def _combined(self, jacobian: Tensor, found: Found, step: Step) -> Tensor:
        """One gradient from the task gradients: of the whole model, or tensor by tensor."""
        if self.weighing.blocks == "model":
            return self.weighing.combine([jacobian], step, None, [])[0]
        return self.weighing.by_block(jacobian, [p.numel() for p in found.shared], step)

    def _delivery(
        self,
        flat: Tensor,
        got: by_parameters.TaskGradients,
        found: Found,
        step: Step,
        factor: float,
    ) -> Delivery:
        weights = self.weighing.record.applied
        heads = self.weighing.heads(step)
        if self.heads == "weighted" and weights is not None:
            heads = weights.tolist()
        # The gradients are delivered, so the value needs no graph.
        light = step.without_graph()
        value = self.weighing.plain(light) if weights is None else weighted(light, weights)
        rest = by_parameters.heads(found.own, got.heads, [h * factor for h in heads])
        flat = flat if factor == 1.0 else flat * factor
        gradients: list[Tensor | None] = list(by_parameters.split(flat, found.shared))
        return value, [*found.shared, *rest], [*gradients, *rest.values()]

    def _task_gradients(
        self,
        step: Step,
        found: Found,
        share: Share | None,
        *,
        keep_graph: bool,
        factor: float = 1.0,
    ) -> by_parameters.TaskGradients:
        """The task gradients of the losses, found at the losses times ``factor``."""
        tensors = step.tensors if factor == 1.0 else [t * factor for t in step.tensors]
        if share is None:
            got = by_parameters.task_gradients(
                tensors, found.shared, found.own, step.names, keep_graph=keep_graph
            )
        else:
            got = by_parameters.task_gradients_from_features(
                tensors,
                share.views_of(step.names),
                share.features,
                found.shared,
                found.own,
                keep_graph=keep_graph,
            )
        if factor != 1.0:
            got.jacobian /= factor
            got.heads = [[g if g is None else g / factor for g in task] for task in got.heads]
        return got

    def _with_known_weights(
        self, step: Step, found: Found, *, keep_graph: bool, factor: float
    ) -> Delivery:
        """One pass for the shared parameters and one for the heads."""
        applied = self.weighing.weights(step)
        leaves = list(dict.fromkeys(leaf for own in found.own for leaf in own))
        shared, rest = by_parameters.weighted_gradients(
            step.stacked,
            applied * factor,
            applied.new_tensor(self.weighing.heads(step)) * factor,
            found.shared,
            leaves,
            keep_graph=keep_graph,
        )
        return weighted(step.without_graph(), applied), [*found.shared, *leaves], [*shared, *rest]
