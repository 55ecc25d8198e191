"""The way of all task gradients from the heads down a chain of layers, in one go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from equipoise.gradients.batched import Batched
from equipoise.gradients.chain import Blocks, Chain, Trust, apart, chain_below
from equipoise.gradients.features import Share
from equipoise.gradients.gathering import Gathering
from equipoise.gradients.graph import Entry
from equipoise.gradients.passes import Found, down, to_entry
from equipoise.gradients.step import Step

# Before 2.5 a backward pass cannot start at a node of the graph.
_STARTS_ANYWHERE = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 5)


class Descent(NamedTuple):
    """A chain of layers, and where it begins.

    Attributes:
        chain: the chain.
        start: its upper end, which all heads read.
        users: for each loss of this rank, the nodes of its head that use the upper end, and at which of their
            inputs; empty where the tasks have views.
        trust: in chains that were met before.
    """

    chain: Chain
    start: GradientEdge
    users: list[list[tuple[Any, int]]]
    trust: Trust

    def through_heads(
        self,
        step: Step,
        own: Sequence[Sequence[Tensor]],
        factor: float,
        keep: bool,
        heads: list[Found],
    ) -> list[Found | None]:
        """All heads in one backward pass: for each task the gradient at the upper end.

        Args:
            step: the losses.
            own: for each task, the parameters of its head.
            factor: what the losses are multiplied with.
            keep: whether the graph outlives the pass.
            heads: takes the gradients of the heads' parameters.
        """
        here = [k for k, loss in enumerate(step.losses) if loss is not None]
        arrived, of_heads = to_entry(
            step.present, self.start, self.users, [own[k] for k in here], factor, keep_graph=keep
        )
        upstream: list[Found | None] = [None] * len(step.names)
        for k, gradient, of_task in zip(here, arrived, of_heads, strict=True):
            upstream[k], heads[k] = [gradient], of_task
        return upstream

    @torch.no_grad()
    def bring(
        self, upstream: list[Found | None], shared: Sequence[Tensor], gathering: Gathering
    ) -> list[GradientEdge]:
        """Goes down the chain.

        Args:
            upstream: for each task the gradient at the upper end; afterwards, where autograd has to go on.
            shared: the shared parameters.
            gathering: takes the gradients of the chain's parameters.

        Returns:
            Where autograd has to go on; empty where nothing is left.
        """
        known = next(found[0] for found in upstream if found is not None and found[0] is not None)
        zero = torch.zeros_like(known)
        rows = [zero if found is None or found[0] is None else found[0] for found in upstream]
        stacked = torch.stack(rows)
        chain = self.chain
        blocks, bottom = chain.descend(stacked)
        if self.trust.due(chain) and not self._agrees(stacked, blocks, bottom):
            return [self.start]
        gathering.take_blocks(blocks)
        if chain.below is None or all(p in blocks for p in shared):
            return []
        for k, found in enumerate(upstream):
            if found is not None:
                upstream[k] = [None if found[0] is None else bottom[k].contiguous()]
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
        self.trust.refuse(self.chain)
        return False


def descent(entry: Entry | Batched | None, share: Share | None, trust: Trust) -> Descent | None:
    """The way down from what all heads read, where that is one tensor on top of a chain.

    Args:
        entry: the node through which all heads reach what is shared, if there is one.
        share: the shared features, where they were given.
        trust: in chains that were met before.
    """
    if share is not None:
        start = get_gradient_edge(share.features[0]) if len(share.features) == 1 else None
    elif isinstance(entry, Batched):
        start = entry.starts[0]
    else:
        start = None if entry is None else GradientEdge(entry.node, 0)
    if start is None or not _STARTS_ANYWHERE:
        return None
    chain = chain_below((start.node, start.output_nr), start.node._input_metadata[0].dtype)
    if chain is None or not trust.given(chain):
        return None
    if share is not None or isinstance(entry, Batched):
        return Descent(chain, start, [], trust)
    users = entry.users() if entry is not None else None
    return None if users is None else Descent(chain, start, users, trust)
