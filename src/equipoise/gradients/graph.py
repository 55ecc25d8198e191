"""Which parameters the losses reach: one walk of the autograd graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    """

    common: list[Tensor]
    own: list[list[Tensor]]
    sinks: list[Any]
    half: bool


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
    used: dict[Any, tuple[int, int]] = {}
    meeting: list[Any] = []
    sinks: dict[Any, None] = {}
    half = False
    for number, root in enumerate(roots):
        edge = get_gradient_edge(root)
        stack: list[Any] = [edge.node]
        if edge.node.name() == _SINK:
            sinks[edge.node] = None
            stack = _behind(edge.node, edge.output_nr)
        while stack:
            node = stack.pop()
            owner = first.get(node)
            if owner is not None:
                if owner != number:
                    meeting.append(node)
                continue
            if node is stop:
                continue
            first[node] = number
            if not node.next_functions:
                used.setdefault(node, (0, 0))
                continue
            for position, (below, output) in enumerate(node.next_functions):
                if below is None:
                    continue
                if not below.next_functions:
                    use = (node._sequence_nr(), position)
                    used[below] = min(use, used.get(below, use))
                    # Under autocast a parameter is cast before it is used.
                    if type(node).__name__ == _CAST and not half:
                        half = node._input_metadata[0].dtype == torch.float16
                elif type(below).__name__ == _SINK:
                    sinks[below] = None
                    stack += _behind(below, output)
                    continue
                stack.append(below)
    shared = _below(meeting)
    own: list[list[Tensor]] = [[] for _ in roots]
    common: list[Tensor] = []
    for node in sorted(used, key=lambda n: used[n]):
        variable: Tensor | None = getattr(node, "variable", None)
        if variable is not None and node in first:
            half = half or variable.dtype == torch.float16
            leaf = variable if instead is None else instead.get(variable, variable)
            (common if node in shared else own[first[node]]).append(leaf)
    return Reached(common, own, list(sinks), half)


def _behind(sink: Any, output: int) -> list[Any]:
    """Where one output of a sink comes from: its inputs pass straight through."""
    # Of the inputs, behind one that is no tensor, those that need a gradient are followed, in this order.
    before = sum(sink.needs_input_grad[1 : output + 1])
    node, nr = [edge for edge in sink.next_functions if edge[0] is not None][before]
    return _behind(node, nr) if node.name() == _SINK else [node]


def hides(roots: Sequence[Tensor]) -> bool:
    """Whether reentrant checkpointing hides what is below from a walk."""
    nodes = _below([get_gradient_edge(root).node for root in roots])
    return any(node.name() == "CheckpointFunctionBackward" for node in nodes)


def _below(nodes: list[Any]) -> set[Any]:
    """The nodes and everything below them."""
    found: set[Any] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(below for below, _ in node.next_functions if below is not None)
    return found
