"""The way of all task gradients from the heads down a chain of layers, in one go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from equipoise.gradients.chain import Blocks, Chain, Trust, apart, chain_below
from equipoise.gradients.features import Share
from equipoise.gradients.gathering import Gathering
from equipoise.gradients.graph import Entry, leaf_of
from equipoise.gradients.passes import Found, backward, down
from equipoise.gradients.step import Step

# Before 2.5 a backward pass cannot start at a node of the graph.
_STARTS_ANYWHERE = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 5)

# Tasks from which on the chain is quicker than one pass a task.
ENOUGH = 4


class Descent(NamedTuple):
    """A chain of layers, and where it begins.

    Attributes:
        chain: the chain.
        start: its upper end, which all heads read.
        trust: in chains that were met before.
        due: whether this use is to be compared with autograd.
    """

    chain: Chain
    start: GradientEdge
    trust: Trust
    due: bool

    def through_heads(
        self,
        step: Step,
        own: Sequence[Sequence[Tensor]],
        factor: float,
        keep: bool,
        heads: list[Found],
    ) -> list[Found | None]:
        """One backward pass for each head: for each task the gradient at the upper end.

        Args:
            step: the losses.
            own: for each task, the parameters of its head.
            factor: what the losses are multiplied with.
            keep: whether the graph outlives the pass.
            heads: takes the gradients of the heads' parameters.
        """
        upstream: list[Found | None] = [None] * len(step.names)
        for k, loss in enumerate(step.losses):
            if loss is not None:
                found = backward(loss, [self.start, *own[k]], factor, keep_graph=keep)
                upstream[k], heads[k] = found[:1], found[1:]
        return upstream

    @torch.no_grad()
    def bring(
        self, upstream: list[Found | None], gathering: Gathering
    ) -> list[GradientEdge] | None:
        """Goes down the chain.

        Args:
            upstream: for each task the gradient at the upper end; afterwards, where autograd has to go on.
            gathering: takes the gradients of the chain's parameters.

        Returns:
            Where autograd has to go on; empty where nothing is left. None where autograd finds something else
            than the chain, which is then of no use.
        """
        given = [None if found is None else found[0] for found in upstream]
        known = next((g for g in given if g is not None), None)
        if known is None:
            return None
        zero = torch.zeros_like(known)
        stacked = torch.stack([zero if g is None else g for g in given])
        chain = self.chain
        blocks, bottom = chain.descend(stacked)
        if self.due and not self._agrees(stacked, blocks, bottom):
            return None
        gathering.take_blocks(blocks)
        if chain.below is None:
            return []
        for k, found in enumerate(upstream):
            if found is not None:
                upstream[k] = [None if given[k] is None else bottom[k].contiguous()]
        return [chain.below]

    def _agrees(self, stacked: Tensor, blocks: Blocks, bottom: Tensor) -> bool:
        """Whether the chain found what autograd finds, task by task."""
        inputs: list[Any] = [*blocks]
        mine = [*blocks.values()]
        if self.chain.below is not None:
            inputs.append(self.chain.below)
            mine.append(bottom)
        off = []
        for k, row in enumerate(stacked):
            exact = down([self.start], [row], inputs, keep_graph=True)
            off.append(apart([part[k] for part in mine], exact))
        if bool((torch.stack(off) <= 1).all()):
            return True
        self.trust.refuse(self.chain.kind)
        return False


def descent(entry: Entry | None, share: Share | None, trust: Trust, tasks: int) -> Descent | None:
    """The way down from what all heads read, where that is one tensor on top of a chain.

    Args:
        entry: the node through which all heads reach what is shared, if there is one.
        share: the shared features, where they were given.
        trust: in chains that were met before.
        tasks: the number of tasks; for few, one pass each takes no longer.
    """
    if tasks < ENOUGH or (entry is None and share is None):
        return None
    start = start_of(entry, share)
    chain = None if start is None else chain_below((start.node, start.output_nr), _dtype(start))
    if start is None or chain is None or not trust.given(chain.kind):
        return None
    # Looked at last, since it takes a walk.
    if share is None and entry is not None and not entry.complete():
        return None
    return Descent(chain, start, trust, trust.due(chain.kind))


def start_of(entry: Entry | None, share: Share | None) -> GradientEdge | None:
    """What all heads read, unless some get past it; None where that is no one tensor.

    Args:
        entry: the node through which all heads reach what is shared, if there is one.
        share: the shared features, where they were given.
    """
    if not _STARTS_ANYWHERE:
        return None
    if share is not None:
        features = share.features[0]
        return (
            get_gradient_edge(features) if len(share.features) == 1 and features.grad_fn else None
        )
    if entry is None or leaf_of(entry.node) is not None:
        return None
    return GradientEdge(entry.node, 0)


def _dtype(edge: GradientEdge) -> torch.dtype:
    dtype: torch.dtype = edge.node._input_metadata[0].dtype
    return dtype
