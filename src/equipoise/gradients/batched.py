"""Heads that are computed as one: which parameters are whose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from equipoise.gradients.graph import Entry, leaf_of, leaves_below

# What equipoise.nn.BatchedHeads puts between the tasks' views and its heads: a stack of the views, of which
# head k reads the k-th and no other.
_STACK = "HeadsTogetherBackward"


class Batched(NamedTuple):
    """Heads that are computed as one.

    Attributes:
        own: for each loss, the parameters of its head.
        heads: the parameters of all heads, those of absent tasks among them.
    """

    own: list[list[Tensor]]
    heads: set[Tensor]


def batched(entry: Entry | None, losses: Sequence[Tensor], views: Any) -> Batched | None:
    """The heads of some losses, where they are computed as one from the tasks' views.

    Args:
        entry: the node in which all losses meet.
        losses: scalars with a graph.
        views: the node that hands out the views.
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
    stack, parameters = found
    given = [node for node, _ in stack.next_functions if node is not None]
    if any(node is not views for node in given):
        return None
    heads = {leaf for of_slot in parameters.values() for leaf in of_slot}
    # One that several heads have, or the trunk, too, is no head's own.
    if len(heads) < sum(map(len, parameters.values())) or heads.intersection(leaves_below(stack)):
        return None
    return Batched([parameters.get(slot, []) for slot in mine], heads)


def _below(top: Any) -> tuple[Any, dict[int, list[Tensor]]] | None:
    """The node that stacks the views, and the parameters of each slot; None for another graph."""
    stack: Any = None
    parameters: dict[int, list[Tensor]] = {}
    seen = {top}
    waiting = [top]
    while waiting:
        user = waiting.pop()
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
            if type(node).__name__ == _STACK:
                if stack is not None:
                    return None
                stack = node
                continue
            waiting.append(node)
    return None if stack is None else (stack, parameters)
