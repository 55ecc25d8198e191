"""ASPP: torchvision's counts, shapes, and reach."""

from __future__ import annotations

import pytest
import torch
from counting import on_meta, parameters

from equipoise.nn.backbones import ASPP, ResNet, aspp_head

# Parameters of torchvision's DeepLabV3 with 21 classes, which has an auxiliary head of this many too.
AUXILIARY = 1024 * 256 * 9 + 2 * 256 + 256 * 21 + 21


@pytest.mark.parametrize(("depth", "count"), [(50, 42_004_074), (101, 60_996_202)])
def test_with_a_resnet_it_counts_as_published(depth: int, count: int) -> None:
    body = on_meta(lambda: ResNet(depth, dilated=True))
    head = on_meta(lambda: aspp_head(2048, 21))
    assert parameters(body) + parameters(head) + AUXILIARY == count


def test_outputs_have_the_size_of_the_image() -> None:
    x = torch.randn(2, 6, 9, 12)
    assert aspp_head(6, 3, width=4)(x).shape == (2, 3, 72, 96)
    assert aspp_head(6, 3, width=4, size=(70, 91))(x).shape == (2, 3, 70, 91)


def test_a_place_looks_as_far_as_the_largest_rate_and_no_farther_but_for_the_mean() -> None:
    torch.manual_seed(0)
    pyramid = ASPP(1, rates=(2, 3), width=4, dropout=0.0).eval()
    x = torch.randn(1, 1, 15, 15, requires_grad=True)
    pyramid(x)[0, :, 7, 7].sum().backward()
    assert x.grad is not None
    everywhere = x.grad[0, 0, 0, 0]
    near = (x.grad[0, 0] - everywhere).abs() > 1e-7
    rows, columns = near.nonzero().T
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {
        (7 + a * r, 7 + b * r) for r in (2, 3) for a in (-1, 0, 1) for b in (-1, 0, 1)
    }
    assert everywhere != 0


def test_a_rate_of_one_is_a_plain_3x3_convolution() -> None:
    sizes = [look[0].kernel_size for look in ASPP(4, rates=(1, 6), width=4).looks]
    assert sizes == [(1, 1), (3, 3), (3, 3)]
