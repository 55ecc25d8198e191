"""The LeNet of multi-task papers on overlaid digits."""

from __future__ import annotations

from torch import nn

from equipoise.nn.trunk import Trunk

KERNEL = 5


def lenet(width: int = 50, size: int = 36, channels: int = 1) -> Trunk:
    """Two convolutions of 5 x 5, each with a pooling, and a layer: three stages.

    At width 50 these are the 10 and 20 channels and 50 features of the papers.

    Args:
        width: features; the channels of the convolutions are a fifth and two fifths of them.
        size: height and width of the images.
        channels: of the images.

    Raises:
        ValueError: ``width`` is below 5, or the images are too small.

    References:
        LeCun et al., *Gradient-Based Learning Applied to Document Recognition*, Proceedings of the IEEE
        1998; in this form in Sener and Koltun, *Multi-Task Learning as Multi-Objective Optimization*,
        NeurIPS 2018, arXiv:1810.04650.
    """
    first, second = width // 5, 2 * width // 5
    left = ((size - KERNEL + 1) // 2 - KERNEL + 1) // 2
    if first < 1:
        raise ValueError(f"width is {width}, but LeNet needs 5 features or more")
    if left < 1:
        raise ValueError(f"images of {size} x {size} are too small for LeNet; it needs 16 x 16")

    def stages() -> list[nn.Module]:
        return [
            nn.Sequential(nn.Conv2d(channels, first, KERNEL), nn.MaxPool2d(2), nn.ReLU()),
            nn.Sequential(nn.Conv2d(first, second, KERNEL), nn.MaxPool2d(2), nn.ReLU()),
            nn.Sequential(nn.Flatten(), nn.Linear(second * left**2, width), nn.ReLU()),
        ]

    return Trunk(stages, (first, second, width))
