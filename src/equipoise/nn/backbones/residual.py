"""The blocks of ResNets: convolutions around which the input is added."""

from __future__ import annotations

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added.

    Args:
        inputs: channels that come in.
        width: channels of the convolutions and of what goes out.
        stride: of the first convolution.
        dilations: of the first 3x3 convolution and of what follows it.
    """

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, dilations: tuple[int, int]) -> None:
        super().__init__()
        first, second = dilations
        self.conv1 = convolution(inputs, width, 3, stride, first)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, 1, second)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """From ``Tensor[B, inputs, H, W]`` to ``Tensor[B, width, H / stride, W / stride]``."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        kept: Tensor = x if self.downsample is None else self.downsample(x)
        added: Tensor = self.relu(out + kept)
        return added


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution around which the input is added; the 3x3 has the stride.

    Args:
        inputs: channels that come in.
        width: channels of the 3x3 convolution; four times as many go out.
        stride: of the 3x3 convolution.
        dilations: of the first 3x3 convolution, the only one here, and of what would follow it.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, dilations: tuple[int, int]) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = convolution(inputs, width, 1, 1, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride, dilations[0])
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, outputs, 1, 1, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """From ``Tensor[B, inputs, H, W]`` to ``Tensor[B, 4 * width, H / stride, W / stride]``."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        kept: Tensor = x if self.downsample is None else self.downsample(x)
        added: Tensor = self.relu(out + kept)
        return added


def convolution(inputs: int, outputs: int, size: int, stride: int, dilation: int) -> nn.Conv2d:
    """A convolution that keeps the resolution but for its stride, without a bias, as a norm follows."""
    padding = dilation * (size // 2)
    made = nn.Conv2d(inputs, outputs, size, stride, padding, dilation, bias=False)
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(
        convolution(inputs, outputs, 1, stride, 1),
        nn.BatchNorm2d(outputs),
    )
