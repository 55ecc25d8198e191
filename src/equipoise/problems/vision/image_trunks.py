"""Networks for images of any size: a small one, and the residual ones of the papers."""

from __future__ import annotations

from torch import nn

from equipoise.nn import Trunk
from equipoise.nn.backbones.resnet import resnet

NETWORKS = ("resnet18", "small")
SMALL = 32


def image_trunk(network: str, width: int | None = None, weights: str | None = None) -> Trunk:
    """From images ``Tensor[B, 3, H, W]`` to features ``Tensor[B, F]``.

    Args:
        network: ``"resnet18"``, or ``"small"``: two convolutions and a linear layer, to try things with.
        width: channels after the first convolution of the residual network (64), or features of the small
            one (32).
        weights: file of a state dict of the residual network, such as that of ImageNet; None for random
            ones.

    Raises:
        ValueError: there is no such network, the width is too small, or the weights do not fit it.
        OSError: the file of the weights cannot be read.
    """
    if network == "small":
        if weights is not None:
            raise ValueError("network 'small' takes no weights; leave them out or take 'resnet18'")
        return _small(SMALL if width is None else width)
    if network == "resnet18":
        return resnet(18, 64 if width is None else width, weights=weights)
    raise ValueError(f"there is no network {network!r}; known: {', '.join(NETWORKS)}")


def _small(width: int) -> Trunk:
    if width < 4:
        raise ValueError(f"width is {width}, but network 'small' needs 4 features or more")
    first, second = width // 4, width // 2

    def stages() -> list[nn.Module]:
        return [
            nn.Sequential(nn.Conv2d(3, first, 5, stride=2, padding=2), nn.ReLU()),
            nn.Sequential(nn.Conv2d(first, second, 3, stride=2, padding=1), nn.ReLU()),
            # Four by four places are kept apart: where something is, counts.
            nn.Sequential(
                nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * second, width), nn.ReLU()
            ),
        ]

    return Trunk(stages, (first, second, width))
