"""ResNet: counts as published, the keys of torchvision, dilation, weights from a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from counting import macs, on_meta, parameters
from torch import Tensor, nn

from equipoise.nn import architecture
from equipoise.nn.backbones import ResNet, resnet

# Parameters and 10^9 multiply-accumulates at 224 x 224 as torchvision publishes them.
PUBLISHED = {
    18: (11_689_512, 1.814),
    34: (21_797_672, 3.664),
    50: (25_557_032, 4.089),
    101: (44_549_160, 7.801),
}


@pytest.mark.parametrize("depth", PUBLISHED)
def test_counts_are_the_published_ones(depth: int) -> None:
    network = on_meta(lambda: ResNet(depth, outputs=1000))
    count, billions = PUBLISHED[depth]
    assert parameters(network) == count
    assert macs(network, torch.empty(1, 3, 224, 224, device="meta")) / 1e9 == pytest.approx(
        billions, abs=5e-4
    )


def keys(depth: int) -> Iterator[str]:
    """The keys of torchvision's ResNet, by rule."""
    convolutions, wide = (2, 1) if depth < 50 else (3, 4)

    def norm(name: str) -> Iterator[str]:
        for entry in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            yield f"{name}.{entry}"

    yield "conv1.weight"
    yield from norm("bn1")
    blocks = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
    for layer, count in enumerate(blocks, 1):
        for block in range(count):
            for number in range(1, convolutions + 1):
                yield f"layer{layer}.{block}.conv{number}.weight"
                yield from norm(f"layer{layer}.{block}.bn{number}")
            if block == 0 and (layer > 1 or wide > 1):
                yield f"layer{layer}.0.downsample.0.weight"
                yield from norm(f"layer{layer}.0.downsample.1")
    yield "fc.weight"
    yield "fc.bias"


@pytest.mark.parametrize("depth", PUBLISHED)
def test_the_state_dict_has_the_keys_of_torchvision_in_their_order(depth: int) -> None:
    assert list(on_meta(lambda: ResNet(depth, outputs=7)).state_dict()) == list(keys(depth))


@pytest.mark.parametrize("depth", [18, 50])
def test_dilation_keeps_an_eighth_of_the_resolution_and_every_parameter(depth: int) -> None:
    plain = on_meta(lambda: ResNet(depth))
    dilated = on_meta(lambda: ResNet(depth, dilated=True))
    shapes = {name: x.shape for name, x in plain.state_dict().items()}
    assert {name: x.shape for name, x in dilated.state_dict().items()} == shapes
    image = torch.empty(1, 3, 64, 96, device="meta")
    strides = {}
    for name, network in (("plain", plain), ("dilated", dilated)):
        x, strides[name] = image, []
        for stage in network.stages():
            x = stage(x)
            strides[name].append((64 // x.shape[2], 96 // x.shape[3]))
    assert strides["plain"] == [(4, 4), (4, 4), (8, 8), (16, 16), (32, 32)]
    assert strides["dilated"] == [(4, 4), (4, 4), (8, 8), (8, 8), (8, 8)]


def test_dilated_features_are_the_plain_ones_where_both_look() -> None:
    """Dilation removes the strides: every fourth place of the dilated map is a place of the plain one."""
    torch.manual_seed(0)
    plain, dilated = ResNet(18, width=4).eval(), ResNet(18, width=4, dilated=True).eval()
    dilated.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 128, 128)
    wanted, got = (nn.Sequential(*network.stages())(x) for network in (plain, dilated))
    assert wanted.shape[2:] == (4, 4) and got.shape[2:] == (16, 16)
    assert torch.allclose(got[:, :, ::4, ::4], wanted, atol=1e-5)


def dilations(network: ResNet) -> list[list[int]]:
    return [
        [
            m.dilation[0]
            for m in layer.modules()
            if isinstance(m, nn.Conv2d) and m.kernel_size[0] == 3
        ]
        for layer in (network.layer2, network.layer3, network.layer4)
    ]


def test_the_first_block_of_a_dilated_layer_still_has_the_dilation_before() -> None:
    assert dilations(ResNet(50, width=2, dilated=True)) == [
        [1] * 4,
        [1, 2, 2, 2, 2, 2],
        [2, 4, 4],
    ]
    assert dilations(ResNet(18, width=2, dilated=True)) == [
        [1] * 4,
        [1, 2, 2, 2],
        [2, 4, 4, 4],
    ]


@pytest.mark.parametrize(("depth", "dilated"), [(18, False), (50, True)])
def test_stages_have_the_channels_that_the_trunk_names(depth: int, dilated: bool) -> None:
    trunk = resnet(depth, width=4, inputs=1, dilated=dilated)
    x, found = torch.randn(2, 1, 40, 56), []
    for stage in trunk.stages():
        x = stage(x)
        found.append(x.shape[1])
    assert tuple(found) == trunk.channels
    assert x.shape == ((2, 128, 5, 7) if dilated else (2, 32))


def test_pooling_can_be_left_to_the_heads() -> None:
    trunk = resnet(18, width=4, pool=False)
    assert len(trunk.channels) == len(trunk.stages()) == 5
    assert trunk.build()(torch.randn(2, 3, 64, 64)).shape == (2, 32, 2, 2)


def small_state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        name: torch.rand_like(x.float())
        for name, x in ResNet(18, 4, outputs=9).state_dict().items()
    }


def test_weights_come_back_from_a_file_but_for_the_classifier(tmp_path: Path) -> None:
    state = small_state()
    torch.save(state, tmp_path / "weights.pth")
    network = ResNet(18, 4, outputs=5)
    fresh = network.fc.weight.clone()
    network.load_imagenet(tmp_path / "weights.pth")
    for name, x in network.state_dict().items():
        if name.startswith("fc."):
            continue
        assert torch.equal(x, state[name].to(x.dtype)), name
    assert torch.equal(network.fc.weight, fresh)


def test_every_network_of_a_trunk_starts_from_the_weights_and_none_writes_into_them() -> None:
    state = small_state()
    kept = {name: x.clone() for name, x in state.items()}
    trunk = resnet(18, 4, weights=state)
    first, second = trunk.build(), trunk.build()
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    assert torch.equal(first[4][1].conv2.weight, state["layer4.1.conv2.weight"])
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    assert torch.equal(second[0].conv1.weight, state["conv1.weight"])
    assert all(torch.equal(x, kept[name]) for name, x in state.items())


def test_old_files_do_not_count_batches() -> None:
    state = {n: x for n, x in small_state().items() if not n.endswith("num_batches_tracked")}
    ResNet(18, 4).load_imagenet(state)


def test_other_networks_weights_are_refused_by_name_and_shape() -> None:
    state = small_state()
    with pytest.raises(
        ValueError, match=r"ResNet-34: it misses layer1\.2\.conv1\.weight, .* and \d+ more"
    ):
        resnet(34, 4, weights=state)
    with pytest.raises(
        ValueError, match=r"conv1\.weight of shape \[4, 3, 7, 7\] instead of \[8, 3, 7, 7\]"
    ):
        resnet(18, 8, weights=state)
    with pytest.raises(ValueError, match=r"it has unknown module\.conv1\.weight"):
        ResNet(18, 4).load_imagenet({**state, "module.conv1.weight": state["conv1.weight"]})


def test_files_that_hold_no_weights_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        resnet(18, weights=tmp_path / "none.pth")
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"damaged\.pth cannot be read as weights"):
        resnet(18, weights=damaged)
    torch.save(small_state(), damaged)
    damaged.write_bytes(damaged.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"damaged\.pth cannot be read as weights"):
        resnet(18, weights=damaged)
    torch.save({"epoch": 3, "state_dict": small_state()}, tmp_path / "checkpoint.pth")
    with pytest.raises(ValueError, match=r"checkpoint\.pth: a mapping from names to tensors"):
        resnet(18, weights=tmp_path / "checkpoint.pth")


def test_a_damaged_file_is_named_or_gives_weights_that_fit(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(small_state(), path)
    whole, refused, network = path.read_bytes(), 0, ResNet(18, 4)
    places = torch.randint(len(whole), (25,), generator=torch.Generator().manual_seed(0)).tolist()
    for place in [*places, *range(0, 60, 6)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            network.load_imagenet(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused


class Trap:
    """Would make a folder if it were unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple:
        return Path.mkdir, (self.place,)


def test_code_in_a_file_of_weights_does_not_run(tmp_path: Path) -> None:
    torch.save({"conv1.weight": Trap(tmp_path / "run")}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match=r"trap\.pth cannot be read as weights"):
        resnet(18, weights=tmp_path / "trap.pth")
    assert not (tmp_path / "run").exists()


def test_an_unknown_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no ResNet-20; known: 18, 34, 50, 101"):
        resnet(20)


def test_a_network_learns_through_it() -> None:
    torch.manual_seed(0)
    trunk = resnet(18, width=4)
    network = architecture("hard_sharing", trunk, {"a": nn.Linear(trunk.features, 2)})
    network(torch.randn(4, 3, 64, 64))["a"].square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
