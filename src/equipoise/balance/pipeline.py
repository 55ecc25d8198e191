"""One pipeline: a rule looks at the losses of a step and at task gradients, and the result is handed over."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.balance.compose import Options, check_features, compose
from equipoise.balance.learning import Learning
from equipoise.balance.observed import Observed
from equipoise.balance.rule import Outcome, Rule
from equipoise.balance.shaping import priors_of
from equipoise.gradients import host
from equipoise.gradients.at_features import AtFeatures
from equipoise.gradients.base import Crossed, TaskGradients
from equipoise.gradients.delivery import zeros_behind
from equipoise.gradients.features import Share
from equipoise.gradients.parameters import AtParameters, Passes
from equipoise.gradients.passes import LossScale
from equipoise.gradients.perturbed import Again, Perturbed, Uphill
from equipoise.gradients.ranks import Ranks
from equipoise.gradients.sharded import at_parameters
from equipoise.gradients.shared import Found, SharedParameters
from equipoise.gradients.step import Step
from equipoise.methods.base import CrossBatchMethod, Heads, JacobianMethod, LossMethod, Method


class Pipeline(Observed):
    """Takes the losses of a step to gradients.

    Args:
        method: the method, or a rule around one.
        options: what is put around it.
        shared: finds the shared parameters.
        self_optimized: whether, and at which rate, learnable weights are stepped here.
        deferred: whether weights are looked at a step later.

    Attributes:
        heads: what the task heads get.
        scales_losses: whether the balanced loss is a weighted sum, known before any backward pass.
    """

    def __init__(
        self,
        method: Method | Rule,
        options: Options,
        shared: SharedParameters,
        self_optimized: bool | float,
        *,
        deferred: bool = False,
    ) -> None:
        rule = compose(method, options)
        super().__init__(rule, Learning(rule.method, self_optimized), deferred=deferred)
        self.heads: Heads = (
            self.rule.method.card.heads if options.heads == "paper" else options.heads
        )
        self.scales_losses = isinstance(self.rule.method, LossMethod) and self.heads == "weighted"
        self._options = options
        self._shared = shared
        self._scale = LossScale()

    # --- from losses to gradients -----------------------------------------------------------------

    def balanced(
        self,
        steps: Sequence[Step],
        share: Share | None,
        ranks: Ranks | None,
        *,
        keep_graph: bool,
        factor: float | None = None,
    ) -> Tensor:
        """The balanced loss with its gradients behind it.

        Args:
            steps: one, or three for a method that multiplies gradients of different batches.
            share: the shared features, where they were given.
            ranks: the processes that train together, if there are several.
            keep_graph: whether the graph outlives the call.
            factor: what gradients are multiplied with (a GradScaler's scale), if anything.
        """
        with host.unrounded(steps[-1].values):
            return self._balanced(steps, share, ranks, keep_graph, factor)

    def _balanced(
        self,
        steps: Sequence[Step],
        share: Share | None,
        ranks: Ranks | None,
        keep_graph: bool,
        factor: float | None,
    ) -> Tensor:
        step = steps[-1]
        if self.scales_losses:
            total = self._through_losses(step, ranks)
            return total if factor is None else total * factor
        if self._at_features(share):
            assert share is not None
            source = AtFeatures(step, share, self._shared, ranks, self._scale)
            total = self._through_features(step, source, ranks)
            return total if factor is None else total * factor
        passes = self._passes(ranks, keep_graph, factor)
        last = self._source(step, share, passes)
        if not isinstance(self.rule.method, CrossBatchMethod):
            return self._through_parameters(step, last, last, ranks)
        first, second = (
            self._source(other, None, passes, last.found_without_heads) for other in steps[:-1]
        )
        crossed = Crossed(first, second, last)
        return self._through_parameters(step, last, crossed, ranks)

    def _source(
        self, step: Step, share: Share | None, passes: Passes, found: Found | None = None
    ) -> AtParameters:
        method = self.rule.method
        entrywise = method.card.id if isinstance(method, JacobianMethod) else ""
        return at_parameters(step, self._shared, share, passes, found, entrywise)

    def uphill(self, step: Step, again: Again, ranks: Ranks | None, uphill: Uphill) -> Tensor:
        """The balanced loss with the gradients of perturbed parameters behind it (SAMO)."""
        passes = self._passes(ranks, keep_graph=True, factor=None)
        source = Perturbed(step, self._shared, passes, again, uphill)
        return self._through_parameters(step, source, source, ranks)

    def _passes(self, ranks: Ranks | None, keep_graph: bool, factor: float | None) -> Passes:
        average = self._options.sync == "exact"
        low = self._options.memory == "low"
        return Passes(ranks, average, keep_graph, factor, self._scale, low)

    def _at_features(self, share: Share | None) -> bool:
        if share is not None and self._options.route != "parameters":
            check_features(self.rule.method, self._options)
            return True
        if self._options.route == "features":
            raise ValueError(
                "route='features' balances at the shared features: call z = balancer.share(features) in "
                "every step and compute each loss from its own view z[task]"
            )
        return False

    def _through_losses(self, step: Step, ranks: Ranks | None) -> Tensor:
        outcome = self._ruled(step, TaskGradients())
        assert outcome.weights is not None
        self.note(step, outcome, None, "losses")
        return self._finished(step.weighted(outcome.weights), step, outcome, ranks)

    def _through_parameters(
        self, step: Step, source: AtParameters, gradients: TaskGradients, ranks: Ranks | None
    ) -> Tensor:
        if not self.rule.blind(step) and source.overflows():
            return source.overflowed()
        outcome = self._ruled(step, gradients)
        shown = self._priors(step) if outcome.weights is None else outcome.weights
        heads = self._heads(step, outcome.weights)
        total = source.deliver(outcome.weights, outcome.direction, heads, shown, outcome.gradients)
        seen = source if source.asked else None
        if not source.searched:
            self.note(step, outcome, seen, "losses")
        else:
            self.note(step, outcome, seen, "parameters", source.found.shared, source.found.how)
        return self._finished(total, step, outcome, ranks)

    def _through_features(self, step: Step, source: AtFeatures, ranks: Ranks | None) -> Tensor:
        if not self.rule.blind(step) and self.heads == "unweighted":
            light = step.light()

            def balance(gradients: TaskGradients) -> tuple[Tensor | None, list[Tensor] | None]:
                outcome = self._ruled(light, gradients)
                self.note(light, outcome, gradients, "features")
                return outcome.weights, outcome.direction

            own = self.rule.method.head_factors(step.values)
            plain = own is None and not self._options.prior
            total = source.deliver_later(balance, self._heads(step, None), plain=plain)
            return self._finished(total, step, None, ranks)
        if not self.rule.blind(step) and source.overflows():
            return source.overflowed()
        outcome = self._ruled(step, source)
        seen = source if source.asked else None
        self.note(step, outcome, seen, "features")
        heads = self._heads(step, outcome.weights)
        total = source.deliver(outcome.weights, outcome.direction, heads)
        return self._finished(total, step, outcome, ranks)

    def _ruled(self, step: Step, gradients: TaskGradients) -> Outcome:
        """What the rule says; the step counts."""
        outcome = self.rule.forward(step, gradients)
        if outcome.weights is not None:
            self.look_at(step.names, outcome.weights)
        if not self.frozen:
            self.count()
        return outcome

    def _heads(self, step: Step, weights: Tensor | None) -> Tensor:
        """What each head's loss is multiplied with, ``Tensor[K]``."""
        if weights is not None and (self.heads == "weighted" or self.frozen):
            return weights
        factors = self._priors(step)
        own = self.rule.method.head_factors(step.values)
        return factors if own is None else factors * own.to(factors)

    def _priors(self, step: Step) -> Tensor:
        if not self._options.prior:
            return torch.ones_like(step.values)
        return step.values.new_tensor(priors_of(self._options.prior, step))

    def _finished(
        self, total: Tensor, step: Step, outcome: Outcome | None, ranks: Ranks | None
    ) -> Tensor:
        """The balanced loss with what else is behind it: learned weights, and tasks that no rank has."""
        if outcome is not None and outcome.learned is not None:
            priors = self._priors(step) if self._options.prior else None
            total = total + self.learning.term(outcome.learned, step.values, priors)
        if ranks is not None and step.left_out:
            total = zeros_behind(total, step.left_out, step.present)
        return total

    def after_step(self, step: Step) -> None:
        """Shows the method the losses after the optimiser step."""
        with self.rule.seeing(self.rule.method, step):
            self.rule.method.after_step(step.values)

    # --- what it shows ----------------------------------------------------------------------------

    def plain(self, step: Step) -> Tensor:
        """The sum of the losses, weighted by the prior alone, with its graph."""
        return step.weighted(self._priors(step)) if self._options.prior else step.stacked.sum()

    def value(self, step: Step) -> Tensor:
        """The value of the balanced loss of the step that was balanced last, detached."""
        weights = self.shown.weights
        return self.plain(step.light()) if weights is None else step.light().weighted(weights)
