"""Which parameters the losses reach: one walk of the autograd graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.autograd.graph import get_gradient_edge


def reached(roots: Sequence[Tensor], stop: Any = None) -> tuple[list[Tensor], list[list[Tensor]]]:
    """The leaves that two roots or more reach, and those that only one reaches.

    Every node is visited at most twice, whatever the number of roots: what lies below a node that a
    second root meets is shared.

    Args:
        roots: losses (or any tensors with a graph).
        stop: a graph node that is not entered.

    Returns:
        The shared leaves, and for each root the leaves that are its own, each in the order found.
    """
    first: dict[Any, int] = {}
    meeting: list[Any] = []
    for number, root in enumerate(roots):
        stack: list[Any] = [get_gradient_edge(root).node]
        while stack:
            node = stack.pop()
            owner = first.get(node)
            if owner is None:
                if node is stop:
                    continue
                first[node] = number
                stack.extend(
                    below for below, _ in reversed(node.next_functions) if below is not None
                )
            elif owner != number:
                meeting.append(node)
    shared: dict[Any, None] = {}
    while meeting:
        node = meeting.pop()
        if node not in shared:
            shared[node] = None
            meeting.extend(below for below, _ in node.next_functions if below is not None)
    own: list[list[Tensor]] = [[] for _ in roots]
    common: list[Tensor] = []
    for node, owner in first.items():
        leaf: Tensor | None = getattr(node, "variable", None)
        if leaf is None:
            continue
        if node in shared:
            common.append(leaf)
        else:
            own[owner].append(leaf)
    return common, own
