"""LeNet: counts and shapes."""

from __future__ import annotations

import pytest
import torch
from counting import parameters
from torch import nn

from equipoise.nn.backbones import lenet, lenet_head


@pytest.mark.parametrize(("size", "flat", "count"), [(36, 720, 41_330), (28, 320, 21_330)])
def test_it_has_the_layers_of_multimnist(size: int, flat: int, count: int) -> None:
    """Convolutions 1-10-20 of 5x5, and 720 (or 320) to 50."""
    trunk = lenet(size)
    network = trunk.build()
    wanted = (25 * 10 + 10) + (25 * 200 + 20) + (flat * 50 + 50)
    assert parameters(network) == wanted == count
    x, seen = torch.randn(3, 1, size, size), []
    for stage in trunk.stages():
        x = stage(x)
        seen.append(x.shape[1])
    assert tuple(seen) == trunk.channels
    assert x.shape == (3, 50)


def test_heads_have_two_layers() -> None:
    head = lenet_head()
    assert parameters(head) == 50 * 50 + 50 + 50 * 10 + 10
    assert head(torch.randn(3, 50)).shape == (3, 10)
    assert sum(isinstance(m, nn.Linear) for m in head) == 2


def test_dropout_is_random_in_training_and_off_in_evaluation() -> None:
    torch.manual_seed(0)
    network, x = lenet(28).build(), torch.randn(4, 1, 28, 28)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_images_that_vanish_are_refused() -> None:
    assert lenet(16).build()(torch.randn(2, 1, 16, 16)).shape == (2, 50)
    with pytest.raises(ValueError, match=r"size=15: .* need 16 or more"):
        lenet(15)
