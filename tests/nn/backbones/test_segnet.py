"""SegNet: counts by formula, and the places of the maxima."""

from __future__ import annotations

import pytest
import torch
from counting import macs, on_meta, parameters
from torch import Tensor, nn

from equipoise.nn.backbones import dense_head, segnet
from equipoise.nn.backbones.segnet import Pooled, Unpooled


def by_formula(width: int, inputs: int) -> int:
    """3x3 convolutions with a bias and a norm: VGG-16 down, and up from each level to that above it."""
    down = [width, 2 * width, 4 * width, 8 * width, 8 * width]
    count, before = 0, inputs
    for channels, depth in zip(
        [*down, *down[3::-1], width], [2, 2, 3, 3, 3, 3, 3, 3, 2, 2], strict=True
    ):
        for _ in range(depth):
            count += 9 * before * channels + 3 * channels
            before = channels
    return count


@pytest.mark.parametrize(("width", "inputs"), [(64, 3), (8, 1), (5, 2)])
def test_parameters_are_those_of_the_formula(width: int, inputs: int) -> None:
    assert parameters(on_meta(segnet(width, inputs).build)) == by_formula(width, inputs)


def test_the_size_of_the_mtan_line_of_work_is_25_million() -> None:
    network = on_meta(segnet().build)
    assert parameters(network) == 24_943_296
    encoder = parameters(nn.ModuleList(list(network)[:5]))
    # The convolutions of VGG-16 with norms, as torchvision counts them: all but its three linear layers.
    assert encoder == 138_365_992 - (25_088 * 4096 + 4096) - (4096**2 + 4096) - (4096 * 1000 + 1000)


def test_multiply_accumulates_are_those_of_the_convolutions() -> None:
    wanted, before = 0, 3
    for channels, depth, level in zip(
        [8, 16, 32, 64, 64, 64, 32, 16, 8, 8],
        [2, 2, 3, 3, 3, 3, 3, 3, 2, 2],
        [0, 1, 2, 3, 4, 4, 3, 2, 1, 0],
        strict=True,
    ):
        for _ in range(depth):
            wanted += 9 * before * channels * (64 >> level) * (96 >> level)
            before = channels
    network = on_meta(segnet(8).build)
    assert macs(network, torch.empty(1, 3, 64, 96, device="meta")) == wanted


@pytest.mark.parametrize("size", [(32, 64), (45, 67)])
def test_stages_work_at_halves_of_the_resolution_and_end_at_the_whole(
    size: tuple[int, int],
) -> None:
    trunk = segnet(4)
    value, seen = torch.randn(2, 3, *size), []
    for stage in trunk.stages():
        value = stage(value)
        seen.append(value if isinstance(value, Tensor) else value[0])
    assert tuple(x.shape[1] for x in seen) == trunk.channels
    halves = [(size[0] >> level, size[1] >> level) for level in (0, 1, 2, 3, 4, 4, 3, 2, 1, 0)]
    assert [tuple(x.shape[2:]) for x in seen] == halves
    assert isinstance(value, Tensor)


def test_unpooling_puts_maxima_back_and_nothing_else() -> None:
    x = torch.tensor([[1.0, 2.0, 5.0, 0.0], [4.0, 3.0, 6.0, 7.0]])[None, None]
    pooled, places = Pooled()((x, ()))
    assert torch.equal(pooled, torch.tensor([[[[4.0, 7.0]]]]))
    back, left = Unpooled()((pooled, places))
    assert torch.equal(back, torch.tensor([[[[0.0, 0, 0, 0], [4.0, 0, 0, 7.0]]]]))
    assert left == ()


def test_stages_take_plain_tuples_with_mixed_features() -> None:
    """What an architecture that mixes features hands on: new features, and the rest as it was."""
    torch.manual_seed(0)
    stages = segnet(2).stages()
    value = torch.randn(1, 3, 32, 32)
    for stage in stages:
        value = stage(value)
        if isinstance(value, tuple):
            value = (2 * value[0], *value[1:])
    assert value.shape == (1, 2, 32, 32)


def test_attention_can_read_behind_the_first_convolution_of_a_stage() -> None:
    stage = segnet(4).stages()[1]
    convolving = [n for n, part in enumerate(stage) if any(True for _ in part.parameters())]
    value = (torch.randn(2, 4, 32, 32), ())
    within, _ = stage[: convolving[1]](value)
    assert within.shape == (2, 8, 16, 16)


def test_gradients_reach_every_parameter_and_a_seed_tells_the_outputs() -> None:
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        network = nn.Sequential(*segnet(2).stages(), dense_head(2, 5))
        x = torch.randn(2, 3, 33, 40)
        out = network(x)
        assert out.shape == (2, 5, 33, 40)
        outputs.append(out.detach())
        out.square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert torch.equal(*outputs)


def test_the_head_of_a_task_is_a_3x3_and_a_1x1_convolution() -> None:
    assert parameters(dense_head(64, 13)) == 64 * 64 * 9 + 64 + 64 * 13 + 13
