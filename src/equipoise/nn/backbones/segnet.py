"""SegNet: a VGG-like encoder and its mirror image, joined by the places of the pooled maxima."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from torch import Tensor, nn
from torch.nn import functional

from equipoise.nn.trunk import Trunk

# Convolutions of a block, from full to a sixteenth of the resolution: those of VGG-16.
DEPTHS = (2, 2, 3, 3, 3)


class Place(NamedTuple):
    """Where the maxima of a pooling came from.

    Attributes:
        indices: ``Tensor[B, C, h, w]``, of the flattened map that was pooled.
        size: height and width of that map.
    """

    indices: Tensor
    size: tuple[int, int]


# What blocks hand on: features ``Tensor[B, C, H, W]``, and the places of all poolings not yet undone.
Value: TypeAlias = tuple[Tensor, tuple[Place, ...]]


class Begun(nn.Module):
    """Opens the first stage: nothing is pooled yet."""

    def forward(self, image: Tensor) -> Value:
        """The image as a value."""
        return image, ()


class Pooled(nn.Module):
    """Halves the resolution and remembers the places of the maxima."""

    def forward(self, value: Value) -> Value:
        """The value with a place more."""
        features, places = value
        height, width = features.shape[-2:]
        smaller, indices = functional.max_pool2d(features, 2, return_indices=True)
        return smaller, (*places, Place(indices, (height, width)))


class Unpooled(nn.Module):
    """Undoes the last pooling: features go to the places of its maxima, the rest is zero."""

    def forward(self, value: Value) -> Value:
        """The value with a place less."""
        features, places = value
        indices, size = places[-1]
        larger = functional.max_unpool2d(features, indices, [2, 2], output_size=list(size))
        return larger, places[:-1]


class Kept(nn.Module):
    """Works on the features of a value and keeps the places.

    Args:
        inner: from features to features.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, value: Value) -> Value:
        """The value with other features."""
        features, places = value
        return self.inner(features), places


class Features(nn.Module):
    """Closes the last stage."""

    def forward(self, value: Value) -> Tensor:
        """The features of a value, ``Tensor[B, C, H, W]``."""
        return value[0]


def segnet(width: int = 64, inputs: int = 3) -> Trunk:
    """SegNet as the MTAN line of work has it: ten stages, five down and five up.

    A stage returns its features and the :class:`Place` of every pooling that is still to be undone, as a
    tuple whose first entry is the features; the last stage returns ``Tensor[B, width, H, W]`` alone. A stage
    is an ``nn.Sequential``: pooling or unpooling opens it, so that all of it works at one resolution; each
    convolution with its norm and ReLU is a child, so that attention modules, as of MTAN, can read the value
    behind any of them. Height and width are at least 32; they need not be multiples of it.

    Args:
        width: channels at full resolution; 2, 4, 8 and 8 times as many below.
        inputs: channels of the image.

    References:
        Badrinarayanan et al., *SegNet*, TPAMI 2017, arXiv:1511.00561; in the sizes of Liu et al.,
        *End-to-End Multi-Task Learning with Attention*, CVPR 2019, arXiv:1803.10704.
    """
    down = (width, 2 * width, 4 * width, 8 * width, 8 * width)
    up = (*down[-2::-1], width)

    def stages() -> Sequence[nn.Module]:
        made, before = [], inputs
        for level, (channels, depth) in enumerate(
            zip((*down, *up), DEPTHS + DEPTHS[::-1], strict=True)
        ):
            parts = _opening(level)
            for _ in range(depth):
                parts.append(Kept(_convolution(before, channels)))
                before = channels
            made.append(parts)
        made[-1].append(Features())
        return [nn.Sequential(*parts) for parts in made]

    return Trunk(stages, (*down, *up))


def dense_head(features: int, outputs: int) -> nn.Sequential:
    """A task's head on maps: a 3x3 and a 1x1 convolution, with nothing between them.

    Args:
        features: channels of the trunk.
        outputs: channels of the task, such as its classes.
    """
    return nn.Sequential(
        _started(nn.Conv2d(features, features, 3, padding=1)),
        _started(nn.Conv2d(features, outputs, 1)),
    )


def _opening(level: int) -> list[nn.Module]:
    """What changes the resolution at the start of a stage; the decoder turns back what the encoder left."""
    if level == 0:
        return [Begun()]
    if level < len(DEPTHS):
        return [Pooled()]
    return [Pooled(), Unpooled()] if level == len(DEPTHS) else [Unpooled()]


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        _started(nn.Conv2d(inputs, outputs, 3, padding=1)),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _started(convolution: nn.Conv2d) -> nn.Conv2d:
    nn.init.xavier_normal_(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution
