"""SegNet: a VGG-like encoder and its mirror image, joined by the places of the pooled maxima."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
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


def begun(image: Tensor) -> Value:
    """The value that the first block works on."""
    return image, ()


def pooled(value: Value) -> Value:
    """Halves the resolution and remembers the places of the maxima."""
    features, places = value
    height, width = features.shape[-2:]
    smaller, indices = functional.max_pool2d(features, 2, return_indices=True)
    return smaller, (*places, Place(indices, (height, width)))


def unpooled(value: Value) -> Value:
    """Undoes the last pooling: features go to the places of its maxima, the rest is zero."""
    features, (*before, (indices, size)) = value
    return functional.max_unpool2d(features, indices, 2, output_size=list(size)), tuple(before)


def turned(value: Value) -> Value:
    """The way from the encoder to the decoder: the last pooling, undone at once."""
    return unpooled(pooled(value))


class Block(nn.Module):
    """One resolution of the encoder or of the decoder.

    ``rest(first(x))``, where ``x`` is what ``enter`` makes of the value of the block before. Attention
    modules that look into a block, as in MTAN, call the three themselves.

    Args:
        enter: changes the resolution, see :func:`pooled` and :func:`unpooled`.
        inputs: channels of what comes in.
        outputs: channels of what goes out.
        depth: number of convolutions.
        last: whether nothing follows, so that only the features are returned.
    """

    def __init__(
        self, enter: Callable[[Any], Value], inputs: int, outputs: int, depth: int, last: bool
    ) -> None:
        super().__init__()
        self.enter = enter
        self.first = _convolution(inputs, outputs)
        self.rest = nn.Sequential(*(_convolution(outputs, outputs) for _ in range(depth - 1)))
        self.last = last

    def forward(self, value: Any) -> Any:
        """The value for the next block; of the last block the features ``Tensor[B, C, H, W]``."""
        features, places = self.enter(value)
        features = self.rest(self.first(features))
        return features if self.last else (features, places)


def segnet(width: int = 64, inputs: int = 3) -> Trunk:
    """SegNet as the MTAN line of work has it: ten stages, five down and five up.

    A stage returns its features and the :class:`Place` of every pooling that is still to be undone, as a
    tuple whose first entry is the features; pooling and unpooling open a stage, so that its features have
    the resolution that it worked at. The last stage returns ``Tensor[B, width, H, W]`` alone. Height and
    width are at least 32; they need not be multiples of it.

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
        for level, (channels, depth) in enumerate(zip(down, DEPTHS, strict=True)):
            enter: Callable[[Any], Value] = pooled if level else begun
            made.append(Block(enter, before, channels, depth, last=False))
            before = channels
        for level, (channels, depth) in enumerate(zip(up, DEPTHS[::-1], strict=True)):
            enter = unpooled if level else turned
            made.append(Block(enter, before, channels, depth, last=level == len(up) - 1))
            before = channels
        return made

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


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        _started(nn.Conv2d(inputs, outputs, 3, padding=1)),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _started(convolution: nn.Conv2d) -> nn.Conv2d:
    nn.init.xavier_normal_(convolution.weight)
    if convolution.bias is not None:
        torch.nn.init.zeros_(convolution.bias)
    return convolution
