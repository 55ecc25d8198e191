"""The shared part of a graph, cut into sections that follow one another."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.autograd.graph import GradientEdge

from equipoise.gradients.graph import leaf_of


class Section(NamedTuple):
    """What lies between one node that everything passes and the next.

    Attributes:
        top: where gradients come in.
        bottom: where they go on; None at the end.
        leaves: the parameters in it.
    """

    top: GradientEdge
    bottom: GradientEdge | None
    leaves: list[Tensor]


def sections(start: GradientEdge, wanted: Sequence[Tensor], entries: int) -> list[Section]:
    """The sections below a node, from the top down.

    Args:
        start: where all gradients come in.
        wanted: the parameters of interest.
        entries: neighbours are joined as long as their parameters have no more entries than these.
    """
    tops, uses = _cuts(start)
    among = set(wanted)
    first: dict[Tensor, int] = {}
    last: dict[Tensor, int] = {}
    for number, leaf in uses:
        if leaf in among:
            first.setdefault(leaf, number)
            last[leaf] = number
    # A parameter that is used in several places keeps everything in between together.
    until = list(range(len(tops)))
    for leaf, number in first.items():
        until[number] = max(until[number], last[leaf])
    mine: list[list[Tensor]] = [[] for _ in tops]
    for leaf, number in first.items():
        mine[number].append(leaf)
    out: list[Section] = []
    begin, end, leaves = 0, 0, list[Tensor]()
    for number in range(len(tops)):
        held = sum(leaf.numel() for leaf in leaves)
        more = sum(leaf.numel() for leaf in mine[number])
        if number > end and leaves and held + more > entries:
            out.append(Section(tops[begin], tops[number], leaves))
            begin, leaves = number, []
        leaves = leaves + mine[number]
        end = max(end, until[number])
    return [*out, Section(tops[begin], None, leaves)]


def _cuts(start: GradientEdge) -> tuple[list[GradientEdge], list[tuple[int, Tensor]]]:
    """The nodes that everything below the start passes, and the parameters used below each of them."""
    # Nodes are numbered as the forward pass made them: the highest one left has no user left.
    heap: list[tuple[int, int, Any]] = [(0, 0, start.node)]
    outputs: dict[Any, set[int]] = {start.node: {start.output_nr}}
    tops: list[GradientEdge] = []
    uses: list[tuple[int, Tensor]] = []
    while heap:
        _, _, node = heapq.heappop(heap)
        if not heap and len(outputs[node]) == 1:
            tops.append(GradientEdge(node, min(outputs[node])))
        for below, output in node.next_functions:
            if below is None:
                continue
            leaf = leaf_of(below)
            if leaf is not None:
                uses.append((len(tops) - 1, leaf))
            elif below in outputs:
                outputs[below].add(output)
            else:
                outputs[below] = {output}
                heapq.heappush(heap, (-below._sequence_nr(), len(outputs), below))
    return tops, uses
