"""Heads that are computed as one: which slot is whose, and one backward pass through all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import grad
from torch.autograd.graph import GradientEdge

from equipoise.gradients.graph import Entry, leaf_of, leaves_below
from equipoise.gradients.passes import Found
from equipoise.gradients.step import Step

# What equipoise.nn.BatchedHeads puts between the features and its heads: K copies of the features, of which
# head k reads the k-th and no other.
_COPIES = "HeadsTogetherBackward"


class Batched(NamedTuple):
    """Heads that are computed as one.

    Attributes:
        copies: the node that gives every head its copy of the features.
        starts: where the features, or the tasks' views of them, come from.
        slots: for each loss of this rank, the number of its copy.
        own: for each loss, the parameters of its head.
        heads: the parameters of all heads, those of absent tasks among them.
    """

    copies: Any
    starts: list[GradientEdge]
    slots: list[int]
    own: list[list[Tensor]]
    heads: set[Tensor]

    def through_heads(
        self,
        step: Step,
        own: Sequence[Sequence[Tensor]],
        factor: float,
        keep: bool,
        heads: list[Found],
    ) -> list[Found | None]:
        """All heads in one backward pass: for each task the gradient at the features.

        Args:
            step: the losses.
            own: for each task, the parameters of its head.
            factor: what the losses are multiplied with.
            keep: whether the graph outlives the pass.
            heads: takes the gradients of the heads' parameters.
        """
        here = [k for k, loss in enumerate(step.losses) if loss is not None]
        arrived: list[Tensor] = []

        def note(gradients: Sequence[Tensor]) -> None:
            arrived.append(gradients[0])

        inputs: list[Any] = [*self.starts, *(p for k in here for p in own[k])]
        given = [torch.full_like(loss, factor) for loss in step.present]
        handle = self.copies.register_prehook(note)
        try:
            found = grad(step.present, inputs, given, retain_graph=keep, allow_unused=True)
        finally:
            handle.remove()
        rest = iter(found[len(self.starts) :])
        upstream: list[Found | None] = [None] * len(step.names)
        for k, slot in zip(here, self.slots, strict=True):
            upstream[k] = [arrived[0][slot] if arrived else None]
            heads[k] = [next(rest) for _ in own[k]]
        return upstream


def batched(entry: Entry | None, losses: Sequence[Tensor]) -> Batched | None:
    """The heads of some losses, where they are computed as one.

    Args:
        entry: the node in which all losses meet.
        losses: scalars with a graph.
    """
    if entry is None or type(entry.node).__name__ != "UnbindBackward0":
        return None
    slots: list[set[int]] = [set() for _ in losses]
    for user, inputs in entry.edges.items():
        if user in entry.shared:
            continue
        for node, output in inputs:
            if node is entry.node:
                slots[entry.first[user]].add(output)
            elif node in entry.shared:
                return None
    if any(len(of_loss) != 1 for of_loss in slots):
        return None
    mine = [slot for (slot,) in slots]
    found = _below(entry.node)
    if found is None or len(set(mine)) < len(mine):
        return None
    copies, parameters = found
    starts = [GradientEdge(*edge) for edge in copies.next_functions if edge[0] is not None]
    heads = {leaf for of_slot in parameters.values() for leaf in of_slot}
    # One that several heads have, or the trunk, too, is no head's own.
    if len(heads) < sum(map(len, parameters.values())) or heads.intersection(leaves_below(copies)):
        return None
    own = [parameters.get(slot, []) for slot in mine]
    return Batched(copies, starts, mine, own, heads)


def _below(top: Any) -> tuple[Any, dict[int, list[Tensor]]] | None:
    """The node that copies the features, and the parameters of each slot; None for another graph."""
    copies: Any = None
    parameters: dict[int, list[Tensor]] = {}
    seen = {top}
    stack = [top]
    while stack:
        user = stack.pop()
        for slot, (node, _) in enumerate(user.next_functions):
            if node is None:
                continue
            leaf = leaf_of(node)
            if leaf is not None:
                # The heads' parameters are stacked, the k-th for slot k.
                if type(user).__name__ != "StackBackward0":
                    return None
                if all(p is not leaf for p in parameters.get(slot, [])):
                    parameters.setdefault(slot, []).append(leaf)
                continue
            if node in seen:
                continue
            seen.add(node)
            if type(node).__name__ == _COPIES:
                if copies is not None:
                    return None
                copies = node
                continue
            stack.append(node)
    return None if copies is None else (copies, parameters)
