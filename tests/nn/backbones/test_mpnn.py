"""The message-passing network: counts, invariances, both forms of inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from counting import parameters
from torch import Tensor, nn

from equipoise.nn.backbones import mpnn

pytest.importorskip("torch_geometric")
SIZES = (4, 2, 3)


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return mpnn(node_features=3, edge_features=2, width=6, hidden=5).build()


def graphs() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Nodes, ends of edges ``[E, 2]`` and their features, of complete graphs."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for size in SIZES:
        ends = torch.tensor([(a, b) for a in range(size) for b in range(size) if a != b])
        nodes = torch.randn(size, 3, generator=generator)
        made.append((nodes, ends, torch.randn(len(ends), 2, generator=generator)))
    return made


def padded(parts: list[tuple[Tensor, Tensor, Tensor]], more: int = 0, fill: float = 0.0) -> Any:
    most = max(len(n) for n, _, _ in parts) + more
    edges = max(len(e) for _, e, _ in parts) + more
    nodes = torch.full((len(parts), most, 3), fill)
    ends = torch.full((len(parts), edges, 2), -1)
    features = torch.full((len(parts), edges, 2), fill)
    for row, (n, e, f) in enumerate(parts):
        nodes[row, : len(n)], ends[row, : len(e)], features[row, : len(f)] = n, e, f
    return nodes, torch.tensor([len(n) for n, _, _ in parts]), ends, features


def test_parameters_are_those_of_the_qm9_network() -> None:
    """Nodes' embedding; edges' matrices; the node's own matrix; GRU; Set2Set's LSTM; the last layer."""
    d = 64
    wanted = (11 * d + d) + (5 * 128 + 128) + (128 * d * d + d * d) + (d * d + d)
    wanted += (6 * d * d + 6 * d) + (4 * d * 3 * d + 8 * d) + (2 * d * d + d)
    assert parameters(mpnn().build()) == wanted == 616_960


def test_a_batch_of_torch_geometric_and_padded_tensors_give_the_same(network: nn.Module) -> None:
    from torch_geometric.data import Batch, Data

    batch = Batch.from_data_list(
        [Data(x=n, edge_index=e.T.contiguous(), edge_attr=f) for n, e, f in graphs()]
    )
    out = network(batch)
    assert out.shape == (3, 6)
    assert torch.allclose(network(padded(graphs())), out, atol=1e-6)


def test_the_order_of_nodes_does_not_matter(network: nn.Module) -> None:
    changed = []
    for number, (nodes, ends, features) in enumerate(graphs()):
        generator = torch.Generator().manual_seed(number)
        order = torch.randperm(len(nodes), generator=generator)
        edges = torch.randperm(len(ends), generator=generator)
        changed.append((nodes[order], order.argsort()[ends][edges], features[edges]))
    assert torch.allclose(network(padded(changed)), network(padded(graphs())), atol=1e-5)


def test_padding_and_the_other_graphs_of_a_batch_do_not_matter(network: nn.Module) -> None:
    out = network(padded(graphs()))
    assert torch.allclose(network(padded(graphs(), more=3, fill=9.0)), out, atol=1e-6)
    for row, graph in enumerate(graphs()):
        assert torch.allclose(network(padded([graph]))[0], out[row], atol=1e-6)


def test_edges_and_their_direction_matter(network: nn.Module) -> None:
    nodes, ends, features = graphs()[0]
    out = network(padded([(nodes, ends, features)]))
    assert not torch.allclose(network(padded([(nodes, ends, -features)])), out, atol=1e-4)
    assert not torch.allclose(network(padded([(nodes, ends.flip(1), features)])), out, atol=1e-5)


def test_steps_share_their_weights_and_carry_farther(network: nn.Module) -> None:
    """On a chain, a node is reached from as many edges away as there are steps, and no farther."""
    counts = {parameters(mpnn(3, 2, 6, steps).build()) for steps in (1, 3)}
    assert len(counts) == 1
    ends = torch.tensor([(a, a + 1) for a in range(5)])
    embedding, passing = list(mpnn(3, 2, 6, steps=2).build())[:2]
    nodes = torch.randn(1, 6, 3, requires_grad=True)
    value = passing(embedding((nodes, torch.tensor([6]), ends[None], torch.randn(1, 5, 2))))
    value[0][4].sum().backward()
    assert nodes.grad is not None
    reached = nodes.grad[0].abs().sum(1) > 0
    assert reached.tolist() == [False, False, True, True, True, False]


def test_a_graph_without_edges_has_features_too(network: nn.Module) -> None:
    lonely = (torch.randn(1, 3), torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, 2))
    both = network(padded([graphs()[0], lonely]))
    assert both.isfinite().all() and both.shape == (2, 6)
    assert torch.allclose(network(padded([lonely], more=1))[0], both[1], atol=1e-6)


def test_it_learns_and_a_seed_tells_all() -> None:
    outputs = []
    for _ in range(2):
        torch.manual_seed(2)
        trunk = mpnn(node_features=3, edge_features=2, width=4, hidden=5)
        assert trunk.channels == (4, 4, 4)
        network = trunk.build()
        out = network(padded(graphs()))
        out.square().sum().backward()
        assert all(p.grad is not None for p in network.parameters())
        outputs.append(out.detach())
    assert torch.equal(*outputs)
