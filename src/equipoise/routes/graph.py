"""Which parameters the losses reach: one walk of the autograd graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.autograd.graph import get_gradient_edge


def reached(roots: Sequence[Tensor], stop: Any = None) -> tuple[list[Tensor], list[list[Tensor]]]:
    """The leaves that two roots or more reach, and those that only one reaches.

    Every node is entered at most twice, whatever the number of roots: what lies below a node that a
    second root meets is shared.

    Args:
        roots: losses (or any tensors with a graph).
        stop: a graph node that is not entered.

    Returns:
        The shared leaves, and for each root the leaves that are its own, each in the order in which the
        forward pass used them.
    """
    first: dict[Any, int] = {}
    used: dict[Any, tuple[int, int]] = {}
    meeting: list[Any] = []
    for number, root in enumerate(roots):
        stack: list[Any] = [get_gradient_edge(root).node]
        if root.is_leaf:
            used.setdefault(stack[0], (0, 0))
        while stack:
            node = stack.pop()
            owner = first.get(node)
            if owner is None:
                if node is stop:
                    continue
                first[node] = number
                below = [n for n, _ in node.next_functions if n is not None]
                stack += below
                for position, leaf in enumerate(below):
                    if not leaf.next_functions:
                        use = (node._sequence_nr(), position)
                        used[leaf] = min(use, used.get(leaf, use))
            elif owner != number:
                meeting.append(node)
    shared = set()
    while meeting:
        node = meeting.pop()
        if node not in shared:
            shared.add(node)
            meeting.extend(n for n, _ in node.next_functions if n is not None)
    own: list[list[Tensor]] = [[] for _ in roots]
    common: list[Tensor] = []
    for node in sorted(used, key=lambda n: used[n]):
        variable: Tensor | None = getattr(node, "variable", None)
        if variable is not None and node in first:
            (common if node in shared else own[first[node]]).append(variable)
    return common, own
