"""ResNet-18, -34, -50 and -101, plain or dilated, with the parameter names of torchvision."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.nn.backbones.residual import BasicBlock, Bottleneck, convolution
from equipoise.nn.trunk import Trunk

# Blocks of each layer.
BLOCKS: Mapping[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}
_DAMAGED = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, OSError),
    *(ValueError, LookupError, TypeError, AttributeError),
)


class ResNet(nn.Module):
    """ResNet; its state dict has the keys of torchvision's.

    Args:
        depth: 18, 34, 50 or 101.
        width: channels of the first layer.
        inputs: channels of the image.
        dilated: layers 3 and 4 dilate their convolutions by 2 and 4 instead of halving the resolution,
            which leaves an eighth of it and the same parameters.
        outputs: of a classifier ``fc``; None for a network without one.

    Raises:
        ValueError: there is no such depth.

    References:
        He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016, arXiv:1512.03385. Dilation:
        Chen et al., *Rethinking Atrous Convolution*, 2017, arXiv:1706.05587.
    """

    def __init__(
        self,
        depth: int = 18,
        width: int = 64,
        inputs: int = 3,
        dilated: bool = False,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        self.depth = depth
        kind = _kind(depth)
        self.conv1 = convolution(inputs, width, 7, 2, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        before, dilation = width, 1
        layers = []
        for level, count in enumerate(BLOCKS[depth]):
            stride, first = min(level, 1) + 1, dilation
            if dilated and level >= 2:
                stride, dilation = 1, 2 * dilation
            blocks: list[nn.Module] = []
            for number in range(count):
                dilations = (dilation if number else first, dilation)
                blocks.append(
                    kind(before, width << level, 1 if number else stride, dilations),
                )
                before = (width << level) * kind.expansion
            layers.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.features = before
        self.fc = None if outputs is None else nn.Linear(before, outputs)

    def stages(self, pool: bool = False) -> list[nn.Module]:
        """Its parts, to be applied one after the other: the stem and the four layers.

        Args:
            pool: whether one more averages over the image.
        """
        named = {"conv1": self.conv1, "bn1": self.bn1, "relu": self.relu, "maxpool": self.maxpool}
        stem = nn.Sequential(OrderedDict(named))
        layers: list[nn.Module] = [stem, self.layer1, self.layer2, self.layer3, self.layer4]
        return [*layers, GlobalAverage()] if pool else layers

    def forward(self, x: Tensor) -> Tensor:
        """The averaged features ``Tensor[B, features]``, or logits ``Tensor[B, outputs]``."""
        for stage in self.stages(pool=True):
            x = stage(x)
        return x if self.fc is None else self.fc(x)

    def load_imagenet(self, weights: str | os.PathLike[str] | Mapping[str, Tensor]) -> None:
        """Takes the weights of a state dict of torchvision's ResNet, all but the classifier's.

        Args:
            weights: the state dict, or the file in which ``torch.save`` put it. Nothing is downloaded.

        Raises:
            ValueError: the file holds something else, or the state dict is of another network.
            OSError: the file cannot be read.
        """
        state = imagenet_state(weights)
        self.refuse_others(state, _name(weights))
        self.load_state_dict(state, strict=False)

    def refuse_others(self, state: Mapping[str, Tensor], where: str) -> None:
        """Refuses the weights of another network.

        Args:
            state: as :func:`imagenet_state` gives it.
            where: it comes from, to be named in the error.

        Raises:
            ValueError: an entry is missing, unknown, or of another shape.
        """
        own = {name: x for name, x in self.state_dict().items() if not name.startswith("fc.")}
        # Files from before torch 0.4.1 do not count batches; nothing reads the count.
        missing = [
            name for name in own if name not in state and not name.endswith("num_batches_tracked")
        ]
        complaints = [_listed("misses", missing)] if missing else []
        if foreign := [name for name in state if name not in own]:
            complaints.append(_listed("has unknown", foreign))
        complaints += [
            f"has {name} of shape {list(state[name].shape)} instead of {list(own[name].shape)}"
            for name in own
            if name in state and state[name].shape != own[name].shape
        ][:3]
        if complaints:
            raise ValueError(
                f"{where} does not fit this ResNet-{self.depth}: it {'; it '.join(complaints)}; give that of "
                f"torchvision.models.resnet{self.depth} to a network with width=64 and inputs=3"
            )


class GlobalAverage(nn.Module):
    """The mean over height and width."""

    def forward(self, x: Tensor) -> Tensor:
        """From ``Tensor[B, C, H, W]`` to ``Tensor[B, C]``."""
        return x.mean((-2, -1))


def resnet(
    depth: int = 18,
    width: int = 64,
    inputs: int = 3,
    dilated: bool = False,
    pool: bool | None = None,
    weights: str | os.PathLike[str] | Mapping[str, Tensor] | None = None,
) -> Trunk:
    """ResNet in five stages, the stem and layers 1 to 4, and a sixth without parameters that averages.

    Args:
        depth: 18, 34, 50 or 101.
        width: channels of the first layer; 2, 4 and 8 times as many in the others, and four times that
            where depth is 50 or more.
        inputs: channels of the image.
        dilated: keep an eighth of the resolution, for dense tasks; else 1/32 is left.
        pool: whether there is a last stage that averages over the image; None: where it is not dilated.
        weights: a state dict of torchvision, or its file, to start from; see :meth:`ResNet.load_imagenet`.

    Raises:
        ValueError: there is no such depth, or the weights are of another network.
        OSError: the file of the weights cannot be read.
    """
    average = not dilated if pool is None else pool
    kind = _kind(depth)
    state = None
    if weights is not None:
        state = imagenet_state(weights)
        with torch.device("meta"):
            ResNet(depth, width, inputs, dilated).refuse_others(state, _name(weights))

    def stages() -> Sequence[nn.Module]:
        network = ResNet(depth, width, inputs, dilated)
        if state is not None:
            network.load_imagenet(state)
        return network.stages(average)

    channels = [width, *(width * kind.expansion << level for level in range(4))]
    return Trunk(stages, (*channels, *channels[-1:] * average))


def imagenet_state(weights: str | os.PathLike[str] | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a state dict but those of the classifier; from a file without running its code.

    Raises:
        ValueError: it is no state dict.
        OSError: the file cannot be read.
    """
    found: Any = weights
    where = _name(weights)
    if not isinstance(weights, Mapping):
        with Path(where).open("rb") as file:
            try:
                found = torch.load(file, map_location="cpu", weights_only=True)
            # What a damaged archive raises depends on which of its bytes are wrong.
            except _DAMAGED as error:
                what = str(error).partition("\n")[0]
                raise ValueError(
                    f"{where} cannot be read as weights ({what}); save a state dict with torch.save"
                ) from None
    if not isinstance(found, Mapping) or not all(isinstance(x, Tensor) for x in found.values()):
        raise ValueError(f"{where}: a mapping from names to tensors is needed: model.state_dict()")
    return {name: x for name, x in found.items() if not name.startswith("fc.")}


def _kind(depth: int) -> type[BasicBlock | Bottleneck]:
    if depth not in BLOCKS:
        raise ValueError(f"there is no ResNet-{depth}; known: {', '.join(map(str, BLOCKS))}")
    return BasicBlock if depth < 50 else Bottleneck


def _name(weights: str | os.PathLike[str] | Mapping[str, Tensor]) -> str:
    return "the state dict" if isinstance(weights, Mapping) else os.fspath(weights)


def _listed(what: str, names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what} {', '.join(names[:3])}{more}"
