"""The trunk for tables."""

from __future__ import annotations

import pytest
import torch
from counting import parameters
from torch import nn

from equipoise.nn.backbones import mlp


def test_layers_are_stages() -> None:
    trunk = mlp(7, (12, 5), dropout=0.3, normalise=True)
    assert trunk.channels == (12, 5)
    assert len(trunk.stages()) == 2
    network = trunk.build()
    assert network(torch.randn(4, 7)).shape == (4, 5)
    assert parameters(network) == (7 * 12 + 12) + 2 * 12 + (12 * 5 + 5) + 2 * 5
    assert sum(isinstance(m, nn.Dropout) for m in network.modules()) == 2


def test_categories_are_embedded_each_in_its_own_table() -> None:
    torch.manual_seed(0)
    trunk = mlp(2, (6,), categories=(2, 9, 300))
    network = trunk.build()
    widths = 1 + 4 + 50
    assert parameters(network) == (2 + 9 * 4 + 300 * 50) + ((2 + widths) * 6 + 6)
    numbers, zeros = torch.randn(3, 2), torch.zeros(3, 3, dtype=torch.long)
    out = network((numbers, zeros))
    assert out.shape == (3, 6)
    for column in range(3):
        other = zeros.clone()
        other[:, column] = 1
        assert not torch.equal(network((numbers, other)), out)


def test_a_category_beyond_its_table_is_no_row_of_another() -> None:
    network = mlp(1, (4,), categories=(2, 5), embedding=3).build()
    with pytest.raises(IndexError):
        network((torch.zeros(1, 1), torch.tensor([[2, 0]])))


def test_a_table_of_categories_alone_will_do() -> None:
    network = mlp(0, (4,), categories=(3,)).build()
    assert network((torch.zeros(2, 0), torch.tensor([[0], [2]]))).shape == (2, 4)


@pytest.mark.parametrize("options", [{"numbers": 0}, {"numbers": 3, "sizes": ()}])
def test_nothing_to_work_on_is_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="a layer and a column are needed"):
        mlp(**options)
