"""Atrous spatial pyramid pooling: the head of DeepLab."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class ASPP(nn.Module):
    """Looks at a map through convolutions of several dilations and its mean, side by side.

    In training, the mean is normalised over the batch alone, which therefore needs two images or more.

    Args:
        features: channels that come in.
        rates: dilations of the 3x3 convolutions.
        width: channels of each of them and of what goes out.
        dropout: of what goes out.

    References:
        Chen et al., *Encoder-Decoder with Atrous Separable Convolution*, ECCV 2018, arXiv:1802.02611.
    """

    def __init__(
        self,
        features: int,
        rates: Sequence[int] = (12, 24, 36),
        width: int = 256,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.looks = nn.ModuleList([_convolution(features, width, 1)])
        self.looks.extend(_convolution(features, width, 3, rate) for rate in rates)
        self.mean = _convolution(features, width, 1)
        self.project = _convolution((len(rates) + 2) * width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """From ``Tensor[B, features, h, w]`` to ``Tensor[B, width, h, w]``."""
        mean = self.mean(x.mean((-2, -1), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        together = torch.cat([*(look(x) for look in self.looks), mean], 1)
        out: Tensor = self.dropout(self.project(together))
        return out


class Upsample(nn.Module):
    """Bilinear interpolation to the size of the image.

    Args:
        scale: how many times larger the image is.
        size: height and width of the image, where it is no multiple of the map; goes before ``scale``.
    """

    def __init__(self, scale: int = 8, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.scale = scale
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """From ``Tensor[B, C, h, w]`` to ``Tensor[B, C, H, W]``."""
        height, width = x.shape[-2:]
        size = self.size or (height * self.scale, width * self.scale)
        return functional.interpolate(x, size, mode="bilinear", align_corners=False)


def aspp_head(
    features: int,
    outputs: int,
    rates: Sequence[int] = (12, 24, 36),
    width: int = 256,
    dropout: float = 0.5,
    scale: int = 8,
    size: tuple[int, int] | None = None,
) -> nn.Sequential:
    """A task's head on a dilated ResNet, as multi-task papers use DeepLab: no low-level features.

    Args:
        features: channels of the trunk.
        outputs: channels of the task, such as its classes.
        rates: dilations of the pyramid.
        width: channels of the pyramid.
        dropout: behind the pyramid.
        scale: of the image to the map: the output stride of the trunk.
        size: height and width of the image, where they are no multiples of ``scale``.
    """
    return nn.Sequential(
        ASPP(features, rates, width, dropout),
        _convolution(width, width, 3),
        nn.Conv2d(width, outputs, 1),
        Upsample(scale, size),
    )


def _convolution(inputs: int, outputs: int, size: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (size // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
