"""The message-passing network of the QM9 literature, through torch-geometric (extra ``molecules``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from equipoise.nn.needs import needs
from equipoise.nn.trunk import Trunk

# What stages hand on: nodes ``Tensor[N, F]`` of all graphs, then ends ``Tensor[2, E]`` and features
# ``Tensor[E, D]`` of edges, the graph of each node ``Tensor[N]``, and the number of graphs.
Value: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor, int]


def mpnn(
    node_features: int = 11,
    edge_features: int = 5,
    width: int = 64,
    steps: int = 3,
    reading_steps: int = 3,
    hidden: int = 128,
) -> Trunk:
    """Messages through edge-dependent matrices, a GRU at every node, and Set2Set over the nodes.

    The inputs are a ``Batch`` of torch-geometric with ``x``, ``edge_index`` and ``edge_attr``, or four
    tensors: nodes ``[B, N, node_features]``, how many of them are real ``[B]``, the ends of edges
    ``[B, E, 2]``, rows of -1 being none, and the features of edges ``[B, E, edge_features]``. Three stages:
    the nodes' embedding, all message passing, whose steps have one set of weights, and the readout.

    Args:
        node_features: of an atom.
        edge_features: of a bond.
        width: of nodes, and of what the last stage returns, ``Tensor[B, width]``.
        steps: of message passing.
        reading_steps: of Set2Set.
        hidden: size of the layer between an edge's features and its matrix.

    Raises:
        ImportError: torch-geometric is not installed.

    References:
        Gilmer et al., *Neural Message Passing for Quantum Chemistry*, ICML 2017, arXiv:1704.01212; in the
        sizes of Navon et al., *Multi-Task Learning as a Bargaining Game*, ICML 2022, arXiv:2202.01017.
    """
    library = needs("torch_geometric.nn", "molecules")

    def stages() -> Sequence[nn.Module]:
        return [
            Nodes(node_features, width),
            Messages(library, width, edge_features, hidden, steps),
            Readout(library, width, reading_steps),
        ]

    return Trunk(stages, (width, width, width))


class Nodes(nn.Module):
    """The nodes' embedding.

    Args:
        features: of a node.
        width: of its embedding.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, width)

    def forward(self, inputs: Any) -> Value:
        """From what :func:`mpnn` takes to what its stages hand on."""
        value = flat(inputs) if isinstance(inputs, list | tuple) else _of_batch(inputs)
        return torch.relu(self.linear(value[0])), *value[1:]


class Messages(nn.Module):
    """Message passing.

    Args:
        library: ``torch_geometric.nn``.
        width: of nodes.
        edge_features: of an edge.
        hidden: size of the layer between an edge's features and its matrix.
        steps: how often messages pass.
    """

    def __init__(
        self, library: Any, width: int, edge_features: int, hidden: int, steps: int
    ) -> None:
        super().__init__()
        matrix = nn.Sequential(
            nn.Linear(edge_features, hidden), nn.ReLU(), nn.Linear(hidden, width * width)
        )
        self.convolution = library.NNConv(width, width, matrix, aggr="mean")
        self.gru = nn.GRU(width, width)
        self.steps = steps

    def forward(self, value: Value) -> Value:
        """The value with the nodes after all steps."""
        nodes, ends, edges, graphs, count = value
        state = nodes.unsqueeze(0)
        for _ in range(self.steps):
            message = torch.relu(self.convolution(nodes, ends, edges))
            out, state = self.gru(message.unsqueeze(0), state)
            nodes = out.squeeze(0)
        return nodes, ends, edges, graphs, count


class Readout(nn.Module):
    """One vector for each graph.

    Args:
        library: ``torch_geometric.nn``.
        width: of nodes, and of the vector.
        steps: of Set2Set.
    """

    def __init__(self, library: Any, width: int, steps: int) -> None:
        super().__init__()
        self.set = library.Set2Set(width, processing_steps=steps)
        self.linear = nn.Linear(2 * width, width)

    def forward(self, value: Value) -> Tensor:
        """From the value to ``Tensor[B, width]``."""
        nodes, _, _, graphs, count = value
        return torch.relu(self.linear(self.set(nodes, graphs, dim_size=count)))


def flat(inputs: Sequence[Tensor]) -> Value:
    """Padded graphs without their padding, one after the other.

    Args:
        inputs: nodes ``[B, N, F]``, sizes ``[B]``, ends ``[B, E, 2]`` with -1 for none, edges ``[B, E, D]``.
    """
    nodes, sizes, ends, edges = inputs
    count, most = nodes.shape[:2]
    number = torch.arange(count, device=nodes.device)
    real = torch.arange(most, device=nodes.device) < sizes.unsqueeze(1)
    before = sizes.cumsum(0) - sizes
    there = ends[..., 0] >= 0
    shifted = ends + before[:, None, None]
    graphs = number.unsqueeze(1).expand(count, most)
    return nodes[real], shifted[there].T, edges[there], graphs[real], count


def _of_batch(batch: Any) -> Value:
    """The parts of a batch of torch-geometric."""
    return batch.x, batch.edge_index, batch.edge_attr, batch.batch, int(batch.num_graphs)
