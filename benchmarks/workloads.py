"""Networks to measure a training step on, each a trunk and a head a task.

====================  ===  ==========================================================================
``tiny_mlp``          K=2  two hidden layers of 32: a step is host work
``mlp``               K=4  three hidden layers of 512: as much memory traffic as arithmetic
``resnet``            K=3  ResNet-18 of width 16 on 32 x 32 pixels
``dense``             K=3  a convolutional encoder, a decoder a task, 64 x 64 pixels, a loss a pixel
``transformer``       K=8  three encoder layers of 256 on 16 sequences of 64 tokens
``celeba``            K=40 a small CNN with 40 binary heads
====================  ===  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name


@dataclass
class Workload:
    """A trunk, a head per task, a batch, and a loss per task.

    Attributes:
        name: of the workload.
        trunk: from the batch to the features that all heads read.
        heads: by task.
        batch: what the trunk reads.
        targets: by task.
        loss: from a head's output and its target to a scalar.
    """

    name: str
    trunk: nn.Module
    heads: nn.ModuleDict
    batch: Tensor
    targets: dict[str, Tensor]
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy

    def losses(self, views: Mapping[str, Any]) -> dict[str, Tensor]:
        """One loss a task."""
        return {t: self.loss(h(views[t]), self.targets[t]) for t, h in self.heads.items()}

    def parameters(self) -> list[nn.Parameter]:
        """All of them."""
        return [*self.trunk.parameters(), *self.heads.parameters()]


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, as in ResNet-18."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm_one = nn.BatchNorm2d(outside)
        self.two = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm_two = nn.BatchNorm2d(outside)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inside != outside:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        out = F.relu(self.norm_one(self.one(x)))
        return F.relu(self.norm_two(self.two(out)) + self.shortcut(x))


class Encoder(nn.Module):
    """Tokens to one vector."""

    def __init__(self, size: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, size)
        layer = nn.TransformerEncoderLayer(size, 4, 4 * size, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """The mean of the last layer's tokens."""
        out: Tensor = self.layers(self.embed(x)).mean(1)
        return out


def _mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inside, outside in pairwise(sizes):
        layers += [nn.Linear(inside, outside), nn.ReLU()]
    return nn.Sequential(*layers)


def _resnet(width: int) -> nn.Module:
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    inside = width
    for stage in range(4):
        for block in range(2):
            outside = width * 2**stage
            layers.append(Block(inside, outside, 2 if stage and not block else 1))
            inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _convolution(inside: int, outside: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    ]


def _dense_encoder() -> nn.Sequential:
    return nn.Sequential(
        *_convolution(3, 16),
        *_convolution(16, 16),
        *_convolution(16, 32, 2),
        *_convolution(32, 32),
        *_convolution(32, 64, 2),
        *_convolution(64, 64),
        *_convolution(64, 128, 2),
        *_convolution(128, 128),
        nn.Upsample(scale_factor=4, mode="bilinear"),
    )


def _decoder(channels: int) -> nn.Sequential:
    return nn.Sequential(
        *_convolution(128, 16),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Conv2d(16, channels, 3, 1, 1),
    )


def _cnn() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inside, outside in ((3, 32), (32, 64), (64, 128)):
        layers += [*_convolution(inside, outside), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 128), nn.ReLU())


def build(name: str, tasks: int | None, device: str) -> Workload:
    """The workload of that name.

    Args:
        name: one of :data:`WORKLOADS`.
        tasks: number of heads; None takes the workload's own.
        device: where it runs.
    """
    torch.manual_seed(0)
    count = WORKLOADS[name] if tasks is None else tasks
    names = [f"task{k}" for k in range(count)]
    trunk: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    classes, size = 10, 128
    if name == "tiny_mlp":
        trunk, size = _mlp(16, 32, 32), 32
        batch = torch.randn(64, 16)
    elif name == "mlp":
        trunk, size = _mlp(256, 512, 512, 512), 512
        batch = torch.randn(256, 256)
    elif name == "resnet":
        trunk = _resnet(16)
        batch = torch.randn(32, 3, 32, 32)
    elif name == "dense":
        trunk = _dense_encoder()
        batch = torch.randn(8, 3, 64, 64)
    elif name == "transformer":
        trunk, size = Encoder(256, 3), 256
        batch = torch.randint(0, 50, (16, 64))
    elif name == "celeba":
        trunk, classes = _cnn(), 1
        loss = F.binary_cross_entropy_with_logits
        batch = torch.randn(32, 3, 32, 32)
    else:
        raise ValueError(f"no workload is called {name!r}")
    if name == "dense":
        heads = {t: _decoder(classes) for t in names}
        targets = {t: torch.randint(0, classes, (len(batch), 64, 64)) for t in names}
    elif name == "celeba":
        heads = {t: nn.Linear(size, 1) for t in names}
        targets = {t: torch.randint(0, 2, (len(batch), 1)).float() for t in names}
    else:
        heads = {t: nn.Linear(size, classes) for t in names}
        targets = {t: torch.randint(0, classes, (len(batch),)) for t in names}
    return Workload(
        name,
        trunk.to(device),
        nn.ModuleDict(heads).to(device),
        batch.to(device),
        {t: y.to(device) for t, y in targets.items()},
        loss,
    )


# The workloads, and the number of their tasks.
WORKLOADS = {"tiny_mlp": 2, "mlp": 4, "resnet": 3, "dense": 3, "transformer": 8, "celeba": 40}
