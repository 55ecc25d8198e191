"""MTAN in both forms."""

from __future__ import annotations

import pytest
import torch
from arch_cases import TASKS, flat, maps, pooled, tokens
from torch import Tensor, nn
from torch.nn import functional

from equipoise.nn import MTAN, Trunk
from equipoise.nn.backbones import dense_head, segnet


def heads(tasks: tuple[str, ...] = TASKS) -> dict[str, nn.Module]:
    return {t: nn.Identity() for t in tasks}


def block(inside: int, outside: int) -> nn.Module:
    convolution = nn.Conv2d(inside, outside, 3, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU())


def encoder() -> Trunk:
    """Two stages of two blocks, the second at half the size."""
    return Trunk(
        lambda: [
            nn.Sequential(block(3, 8), block(8, 8)),
            nn.Sequential(nn.MaxPool2d(2), block(8, 16), block(16, 16)),
        ],
        (8, 16),
    )


def encoder_decoder() -> Trunk:
    return Trunk(
        lambda: [
            nn.Sequential(block(3, 4), block(4, 4)),
            nn.Sequential(nn.MaxPool2d(2), block(4, 8), block(8, 8), block(8, 8)),
            nn.Sequential(nn.Upsample(scale_factor=2), block(8, 4), block(4, 4)),
        ],
        (4, 8, 4),
    )


def entries(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_form_is_found_from_the_channels() -> None:
    assert MTAN.over(encoder(), heads()).form == "resnet"
    assert MTAN.over(encoder_decoder(), heads()).form == "segnet"
    assert MTAN.over(encoder(), heads(), form="segnet").form == "segnet"
    with pytest.raises(ValueError, match="none of 'segnet', 'resnet'"):
        MTAN.over(encoder(), heads(), form="unet")  # type: ignore[arg-type]


def test_the_segnet_form_counts() -> None:
    trunk = encoder_decoder()
    model = MTAN.over(trunk, heads())
    between = sum(9 * a * b + 3 * b for a, b in ((4, 8), (8, 8), (8, 4)))
    # The last stage upsamples: its mask reads the 8 channels before its convolutions, and 4 carried ones.
    masks = sum(n * c + 3 * c + c * c + 3 * c for n, c in ((4, 4), (16, 8), (12, 4)))
    assert entries(model) == entries(trunk.build()) + between + 3 * masks


def test_on_segnet_it_has_as_many_parameters_as_published() -> None:
    """Those that the authors' own class has, without the three of its uncertainty weights."""
    outputs = {"segmentation": 13, "depth": 1, "normals": 3}
    model = MTAN.over(segnet(), {task: dense_head(64, n) for task, n in outputs.items()})
    assert model.form == "segnet"
    assert entries(model) == 44_229_073


def test_on_segnet_maps_go_to_the_bottom_and_the_unpooled_ones_are_read() -> None:
    torch.manual_seed(0)
    model = MTAN.over(segnet(4), heads()).eval()
    given: dict[str, Tensor] = {}

    def seen(name: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda module, inputs, _: given.update({name: inputs[0]}))

    assert model.bottom is not None
    seen("bottom", model.bottom)
    seen("up", model.between[4])
    for number, mask in enumerate(model.masks["one"]):
        seen(f"mask {number}", mask)
    model(torch.randn(2, 3, 64, 96), tasks=["one"])
    assert given["bottom"].shape[1:] == (32, 4, 6)
    # To a thirty-second of the image and back.
    deepest = functional.max_pool2d(model.bottom(given["bottom"]), 2)
    back = functional.interpolate(deepest, scale_factor=2, mode="bilinear", align_corners=True)
    assert torch.allclose(given["up"], back)
    up = [[64, 4, 6], [32 + 16, 8, 12], [16 + 8, 16, 24], [8 + 4, 32, 48], [8, 64, 96]]
    assert [list(given[f"mask {number}"].shape[1:]) for number in range(5, 10)] == up


def test_the_resnet_form_counts() -> None:
    trunk = encoder()
    model = MTAN.over(trunk, heads())
    bottleneck = (8 * 4 + 8) + (9 * 4 * 4 + 8) + (4 * 16 + 32) + (8 * 16 + 32)
    masks = sum(n * m + 2 * m + m * c + 2 * c for n, m, c in ((8, 2, 8), (32, 4, 16)))
    assert entries(model) == entries(trunk.build()) + bottleneck + 3 * masks


def test_the_segnet_form_is_the_papers_equation() -> None:
    """Against the steps written out for one task."""
    torch.manual_seed(0)
    model = MTAN.over(encoder_decoder(), heads()).double().eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    s, f, h = model.stages, model.between, model.masks["two"]
    u1 = s[0][0](x)
    p1 = s[0][1](u1)
    a1 = h[0](u1) * p1
    u2 = s[1][1](s[1][0](p1))
    p2 = s[1][3](s[1][2](u2))
    a2 = h[1](torch.cat([u2, functional.max_pool2d(f[0](a1), 2)], 1)) * p2
    u3 = s[2][0](p2)
    p3 = s[2][2](s[2][1](u3))
    assert model.bottom is not None
    up = functional.interpolate(
        model.bottom(a2), scale_factor=2, mode="bilinear", align_corners=True
    )
    a3 = h[2](torch.cat([u3, f[1](up)], 1)) * p3
    assert torch.allclose(model(x)["two"], a3, atol=1e-12)


def test_the_resnet_form_reads_before_the_last_block() -> None:
    torch.manual_seed(0)
    model = MTAN.over(encoder(), heads()).double().eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    s, h = model.stages, model.masks["one"]
    u1 = s[0][0](x)
    p1 = s[0][1](u1)
    a1 = h[0](u1) * p1
    u2 = s[1][:2](p1)
    p2 = s[1][2](u2)
    a2 = h[1](torch.cat([u2, functional.max_pool2d(model.between[0](a1), 2)], 1)) * p2
    assert torch.allclose(model(x)["one"], a2, atol=1e-12)


def test_a_stem_gets_no_attention_in_the_resnet_form() -> None:
    below = encoder()
    trunk = Trunk(lambda: [block(3, 3), *below.stages()], (3, *below.channels))
    with_stem, without = MTAN.over(trunk, heads()), MTAN.over(below, heads())
    assert [*with_stem.masks.state_dict()] == [*without.masks.state_dict()]
    assert with_stem(torch.randn(2, 3, 8, 8))["one"].shape == (2, 16, 4, 4)
    assert len(MTAN.over(trunk, heads(), form="segnet").masks["one"]) == 3


def test_open_masks_are_hard_sharing() -> None:
    torch.manual_seed(0)
    model = MTAN.over(pooled(), heads()).eval()
    for masks in model.masks.values():
        for mask in masks:
            nn.init.constant_(mask[-2].bias, 40.0)
            nn.init.zeros_(mask[-2].weight)
    x = torch.randn(2, 2, 6, 6)
    want = nn.Sequential(*model.stages)(x)
    assert want.shape == (2, 5)
    assert all(torch.equal(output, want) for output in model(x).values())


def test_a_stage_of_one_layer_is_read_once() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).tanh()

    model = MTAN.over(Trunk.of(Plain, 4), heads()).eval()
    x = torch.randn(2, 3, 6, 6)
    p = model.stages[0](x)
    assert torch.allclose(model(x)["one"], model.masks["one"][0](p) * p)


def test_pooling_behind_the_convolutions_of_a_stage_is_followed() -> None:
    trunk = Trunk.of(lambda: nn.Sequential(block(3, 4), block(4, 4), nn.MaxPool2d(2)), 4)
    assert MTAN.over(trunk, heads())(torch.randn(2, 3, 8, 8))["one"].shape == (2, 4, 4, 4)


def test_inner_maps_of_other_channels_are_not_read() -> None:
    trunk = Trunk.of(lambda: nn.Sequential(block(3, 6), block(6, 4)), 4)
    assert MTAN.over(trunk, heads())(torch.randn(2, 3, 8, 8))["one"].shape == (2, 4, 8, 8)


@pytest.mark.parametrize("trunk", [flat(), tokens()])
def test_a_trunk_without_maps_is_refused(trunk: Trunk) -> None:
    with pytest.raises(ValueError, match="no stage of this trunk has a convolution; take 'mmoe'"):
        MTAN.over(trunk, heads())


def test_a_stage_that_flattens_is_named() -> None:
    below = maps()
    dense = nn.Sequential
    trunk = Trunk(
        lambda: [*below.stages(), dense(nn.Flatten(), nn.Linear(45, 7))], (*below.channels, 7)
    )
    model = MTAN.over(trunk, heads())
    with pytest.raises(ValueError, match=r"stage 2 returned \[2, 7\]; move layers that flatten"):
        model(torch.randn(2, 2, 6, 6))
