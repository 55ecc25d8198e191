"""The ways from losses to task gradients of shared parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor
from torch.autograd.graph import GradientEdge

from equipoise.gradients.descent import descent
from equipoise.gradients.features import Share
from equipoise.gradients.gathering import Gathering
from equipoise.gradients.passes import Found as Gradients
from equipoise.gradients.passes import down, through_heads
from equipoise.gradients.shared import Found, SharedParameters
from equipoise.gradients.step import Step


class Ways(NamedTuple):
    """What a step's backward passes have to know.

    Attributes:
        step: the losses.
        found: the parameters.
        share: the shared features, where they were given.
        finder: found the parameters.
        factor: what the losses are multiplied with.
        keep: whether the graph outlives the passes.
        heads: takes the gradients of the heads' parameters, task by task.
    """

    step: Step
    found: Found
    share: Share | None
    finder: SharedParameters
    factor: float
    keep: bool
    heads: list[Gradients]

    def passed(
        self, gathering: Gathering, alone: Callable[[int, Tensor, bool], Gradients]
    ) -> Iterator[tuple[int, Gradients | None]]:
        """The gradients of one task after the other; None where the task is absent.

        Args:
            gathering: takes gradients that are found for all tasks at once.
            alone: passes the loss of a task by itself, and says whether its graph is kept.
        """
        step, found, share = self.step, self.found, self.share
        last = max(k for k, loss in enumerate(step.losses) if loss is not None)
        chain = None
        if not found.doubtful:
            chain = descent(found.entry, share, self.finder.trust, len(step.present))
        below: Sequence[Tensor | GradientEdge] | None = None
        upstream: list[Gradients | None] = []
        if share is not None:
            upstream, below = self._to_views(share), share.features
        elif chain is not None:
            # Where the chain is of no use, all passes start at the losses again.
            keep = self.keep or chain.due
            upstream = chain.through_heads(step, found.own, self.factor, keep, self.heads)
            for name, incoming in zip(step.names, upstream, strict=True):
                if incoming is not None and incoming[0] is None:
                    raise unreached(name)
        if chain is not None:
            further = chain.bring(upstream, gathering)
            below = below if further is None else further
        if below is None:
            for k, loss in enumerate(step.losses):
                yield k, None if loss is None else alone(k, loss, self.keep or k != last)
            return
        for k, incoming in enumerate(upstream if below else []):
            more = self.keep or k != last
            yield k, incoming and down(below, incoming, found.shared, keep_graph=more)

    def _to_views(self, share: Share) -> list[Gradients | None]:
        """All heads in one backward pass: for each task the gradients at its views of the features."""
        step = self.step
        here = [k for k, loss in enumerate(step.losses) if loss is not None]
        views = share.views_of([step.names[k] for k in here])
        own = [self.found.own[k] for k in here]
        upstream: list[Gradients | None] = [None] * len(step.names)
        at_views, of_heads = through_heads(
            step.present, views, own, self.factor, keep_graph=self.keep
        )
        for k, arrived, of_task in zip(here, at_views, of_heads, strict=True):
            if all(g is None for g in arrived):
                raise ValueError(
                    f"loss '{step.names[k]}' does not depend on its view of the shared features; compute it "
                    f"from z['{step.names[k]}'], where z = balancer.share(features)"
                )
            upstream[k], self.heads[k] = arrived, of_task
        return upstream


def unreached(name: str) -> ValueError:
    """What to say of a loss that no shared parameter gets a gradient of."""
    return ValueError(
        f"the gradient of loss '{name}' is None for every shared parameter: it does not depend on them. "
        "Leave the loss out of the balancer and add it to the result"
    )
