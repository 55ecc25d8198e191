"""Networks with an answer at every pixel: a trunk that the tasks share, and a head for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.nn import Trunk, architecture
from equipoise.nn.backbones import aspp_head, dense_head, resnet, segnet
from equipoise.problems.vision.dense_tasks import Answer

# The trunks, and the channels of their first stage as published.
NETWORKS: Mapping[str, int] = {
    "small": 32,
    "segnet": 64,
    "resnet18": 64,
    "resnet34": 64,
    "resnet50": 64,
    "resnet101": 64,
}
# SegNet halves the image five times; the others are content with this.
LEAST = 8


def builder(
    answers: Sequence[Answer],
    size: tuple[int, int] | Callable[[], tuple[int, int]],
    network: str,
    arch: str,
    width: int | None = None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[[Sequence[str]], nn.Module]:
    """A function from task names to a fresh network.

    Args:
        answers: what it may be asked for.
        size: height and width of images and answers, or a function that is asked when a network is built.
        network: the trunk, of :data:`NETWORKS`: a small encoder-decoder, SegNet, or a dilated ResNet with
            a pyramid of dilations (ASPP) as the head of each task.
        arch: how tasks share it, see :func:`equipoise.nn.architecture`.
        width: channels of the first stage; None: as published.
        weights: path of a state dict to begin a ResNet with; images are given to it as they are, in [0, 1].
        options: of the architecture.

    Raises:
        ValueError: there is no such network, it takes no weights, or the images are too small for it.
    """
    if network not in NETWORKS:
        raise ValueError(f"there is no network {network!r}; known: {', '.join(NETWORKS)}")
    if weights is not None and not network.startswith("resnet"):
        raise ValueError(f"network {network!r} takes no weights; those of ImageNet are of a resnet")
    channels = NETWORKS[network] if width is None else width
    if channels < 4:
        raise ValueError(f"width is {width}, but the network needs 4 channels or more")
    if not callable(size):
        _refuse_small(size, network)
    by_name = {answer.name: answer for answer in answers}

    def model(names: Sequence[str]) -> nn.Module:
        sides = size() if callable(size) else size
        _refuse_small(sides, network)
        trunk = _trunk(network, channels, weights)
        heads = {
            name: _head(network, trunk.features, channels, by_name[name].channels, sides)
            for name in names
        }
        return architecture(arch, trunk, heads, **(options or {}))

    return model


def _refuse_small(size: tuple[int, int], network: str) -> None:
    least = 32 if network == "segnet" else LEAST
    if min(size) < least:
        raise ValueError(
            f"size is {list(size)}, but network {network!r} needs {least} pixels or more"
        )


def small(width: int = 32) -> Trunk:
    """A small encoder-decoder: to a quarter of the size, dilated blocks there, and back to the half.

    Args:
        width: channels at the half.
    """

    def stages() -> list[nn.Module]:
        return [
            _convolution(3, width, stride=2),
            nn.Sequential(_convolution(width, 2 * width, stride=2), _Block(2 * width, 1)),
            nn.Sequential(_Block(2 * width, 2), _Block(2 * width, 4)),
            nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear"), _convolution(2 * width, width)
            ),
        ]

    return Trunk(stages, (width, 2 * width, 2 * width, width))


class Resized(nn.Module):
    """A head whose answer has the size of the image.

    Args:
        head: maps features ``Tensor[B, F, h, w]`` to an answer ``Tensor[B, C, h, w]``.
        size: height and width of the image.
    """

    def __init__(self, head: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.head = head
        self.size = size

    def forward(self, features: Tensor) -> Tensor:
        """The answer ``Tensor[B, C, H, W]``."""
        found: Tensor = self.head(features)
        if found.shape[-2:] == self.size:
            return found
        return functional.interpolate(found, self.size, mode="bilinear")


class _Block(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, dilation=dilation)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(self.first(x)))


def _convolution(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _trunk(network: str, width: int, weights: str | None) -> Trunk:
    if network == "small":
        return small(width)
    if network == "segnet":
        return segnet(width)
    return resnet(int(network.removeprefix("resnet")), width, dilated=True, weights=weights)


def _head(
    network: str, features: int, width: int, outputs: int, size: tuple[int, int]
) -> nn.Module:
    if network == "small":
        head = nn.Sequential(_convolution(features, features), nn.Conv2d(features, outputs, 1))
        return Resized(head, size)
    if network == "segnet":
        return dense_head(features, outputs)
    return aspp_head(features, outputs, width=4 * width, size=size)
