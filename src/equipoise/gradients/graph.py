"""Which parameters the losses reach: one walk of the autograd graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

# DistributedDataParallel passes its outputs through such a node, in some of its modes.
_SINK = "_DDPSinkBackward"
_CAST = "ToCopyBackward0"


@dataclass
class Reached:
    """What a walk found.

    Attributes:
        common: the leaves that two roots or more reach, in the order in which the forward pass used them.
        own: for each root, the leaves that it alone reaches, in the same order.
        sinks: the nodes through which DistributedDataParallel passed its outputs.
        half: whether something on the way is computed in float16.
        entry: where all roots pass into what they share, where they meet in one node only.
    """

    common: list[Tensor]
    own: list[list[Tensor]]
    sinks: list[Any]
    half: bool
    entry: Entry | None = None


class Entry(NamedTuple):
    """The one node through which all roots pass into what they share.

    Attributes:
        node: the uppermost shared node.
    """

    node: Any
    first: Mapping[Any, int]
    edges: Mapping[Any, Any]
    shared: set[Any]
    roots: int

    def complete(self) -> bool:
        """Whether every root uses the first output of the entry, and none gets past it."""
        users = set()
        for user, inputs in self.edges.items():
            if user in self.shared:
                continue
            for below, output in inputs:
                if below is self.node and output == 0:
                    users.add(self.first[user])
                elif below in self.shared:
                    return False
        return len(users) == self.roots


def reached(
    roots: Sequence[Tensor], stop: Any = None, instead: Mapping[Tensor, Tensor] | None = None
) -> Reached:
    """The leaves that the roots reach.

    Every node is entered at most twice, whatever the number of roots: what lies below a node that a
    second root meets is shared.

    Args:
        roots: losses (or any tensors with a graph).
        stop: a graph node that is not entered.
        instead: leaves that stand for others, and those others.
    """
    first: dict[Any, int] = {}
    edges: dict[Any, Any] = {}
    used: dict[Any, tuple[int, int]] = {}
    meeting: list[Any] = []
    sinks: dict[Any, None] = {}
    half = False
    for number, root in enumerate(roots):
        edge = get_gradient_edge(root)
        stack: list[Any] = [(None, [(edge.node, edge.output_nr)])]
        while stack:
            user, inputs = stack.pop()
            for position, (node, output) in enumerate(inputs):
                if node is None or node is stop:
                    continue
                if type(node).__name__ == _SINK:
                    sinks[node] = None
                    node = _behind(node, output)
                owner = first.get(node)
                if owner is None:
                    first[node] = number
                    edges[node] = further = node.next_functions
                    if further:
                        stack.append((node, further))
                        continue
                elif owner != number:
                    meeting.append(node)
                if not edges[node]:
                    use = (0, 0) if user is None else (user._sequence_nr(), position)
                    used[node] = min(use, used.get(node, use))
                    # Under autocast a parameter is cast before it is used.
                    if not half and type(user).__name__ == _CAST:
                        half = user._input_metadata[0].dtype == torch.float16
    shared = _below(meeting, edges)
    own: list[list[Tensor]] = [[] for _ in roots]
    common: list[Tensor] = []
    for node in sorted(used, key=used.__getitem__):
        variable = leaf_of(node)
        if variable is not None:
            half = half or variable.dtype == torch.float16
            leaf = variable if instead is None else instead.get(variable, variable)
            (common if node in shared else own[first[node]]).append(leaf)
    entry = None
    if meeting and not sinks and all(node is meeting[0] for node in meeting):
        entry = Entry(meeting[0], first, edges, shared, len(roots))
    return Reached(common, own, list(sinks), half, entry)


def leaf_of(node: Any) -> Tensor | None:
    """The tensor of a node that accumulates gradients; None for any other node."""
    variable: Tensor | None = getattr(node, "variable", None)
    return variable


def _behind(sink: Any, output: int) -> Any:
    """Where one output of a sink comes from: its inputs pass straight through."""
    # Of the inputs, behind one that is no tensor, those that need a gradient are followed, in this order.
    before = sum(sink.needs_input_grad[1 : output + 1])
    node, nr = [edge for edge in sink.next_functions if edge[0] is not None][before]
    return _behind(node, nr) if node.name() == _SINK else node


def leaves_below(node: Any) -> set[Tensor]:
    """The leaves below a node."""
    found = (leaf_of(below) for below in _below([node], {}))
    return {leaf for leaf in found if leaf is not None}


def hides(roots: Sequence[Tensor]) -> bool:
    """Whether reentrant checkpointing hides what is below from a walk."""
    nodes = _below([get_gradient_edge(root).node for root in roots], {})
    return any(node.name() == "CheckpointFunctionBackward" for node in nodes)


def _below(nodes: list[Any], edges: Mapping[Any, Any]) -> set[Any]:
    """The nodes and everything below them; edges that are known need not be asked for."""
    found: set[Any] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            below = edges.get(node) or node.next_functions
            stack.extend([n for n, _ in below if n is not None])
    return found
