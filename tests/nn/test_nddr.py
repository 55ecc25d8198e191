"""NDDR layers."""

from __future__ import annotations

import pytest
import torch
from arch_cases import TASKS, flat, maps
from torch import nn

from equipoise.nn import NDDR


def heads() -> dict[str, nn.Module]:
    return {t: nn.Identity() for t in TASKS}


def test_an_nddr_layer_is_a_1x1_convolution_and_batch_normalisation() -> None:
    model = NDDR.over(flat(), heads())
    trunk = 6 * 8 + 8 + 8 * 5 + 5
    layers = sum(3 * c * c + 2 * c for c in (8, 5))
    assert sum(p.numel() for p in model.parameters()) == 3 * trunk + 3 * layers


def test_layers_start_on_the_diagonal() -> None:
    weight = NDDR.over(flat(), {t: nn.Identity() for t in "ab"}).mixers["1"]["b"].convolution.weight
    eye = torch.eye(5)
    assert torch.allclose(weight.squeeze(2), torch.cat([0.1 * eye, 0.9 * eye], 1))
    three = NDDR.over(flat(), heads(), own=0.8).mixers["0"]["one"].convolution.weight.squeeze(2)
    assert torch.allclose(three.sum(1), torch.ones(8))
    assert torch.allclose(three.diagonal(), torch.full((8,), 0.8))


def test_maps_are_fused_as_by_a_convolution_in_two_dimensions() -> None:
    torch.manual_seed(0)
    model = NDDR.over(maps(), heads(), after=[1]).double()
    for parameter in model.mixers.parameters():
        nn.init.normal_(parameter)
    inputs = torch.randn(4, 2, 6, 6, dtype=torch.float64)
    columns = [nn.Sequential(*model.columns[t])(inputs) for t in TASKS]
    got = model(inputs)
    for task in TASKS:
        layer = model.mixers["1"][task]
        fused = nn.functional.conv2d(torch.cat(columns, 1), layer.convolution.weight[..., None])
        mean = fused.mean((0, 2, 3), keepdim=True)
        spread = fused.var((0, 2, 3), unbiased=False, keepdim=True)
        want = (fused - mean) / (spread + layer.norm.eps).sqrt()
        want = want * layer.norm.weight[:, None, None] + layer.norm.bias[:, None, None]
        assert torch.allclose(got[task], want, atol=1e-9)


def test_tokens_are_fused_over_their_last_dimension() -> None:
    from equipoise.nn import Trunk

    trunk = Trunk.of(lambda: nn.Linear(3, 5), 5)
    model = NDDR.over(trunk, heads()).eval()
    x = torch.randn(2, 4, 3)
    got = model(x)["one"]
    assert got.shape == (2, 4, 5)
    # Every token is a vector for itself.
    assert torch.allclose(got[:, 1], model(x[:, 1])["one"], atol=1e-6)


def test_a_fully_diagonal_start_is_networks_apart_up_to_normalisation() -> None:
    torch.manual_seed(0)
    model = NDDR.over(flat(), heads(), own=1.0).eval()
    x = torch.randn(5, 6)
    for task, output in model(x).items():
        alone = nn.Sequential(*model.columns[task])(x)
        assert torch.allclose(output, alone, atol=1e-4)


def test_channels_that_are_not_there_are_told() -> None:
    from equipoise.nn import Trunk

    model = NDDR.over(Trunk.of(lambda: nn.Linear(3, 5), 4), heads())
    with pytest.raises(ValueError, match="a fused stage returned"):
        model(torch.randn(2, 3))
