"""Networks to measure a training step on: a tiny MLP, a ResNet-18-like CNN, a small Transformer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name


@dataclass
class Workload:
    """A trunk, a head per task, a batch, and a loss per task."""

    name: str
    trunk: nn.Module
    heads: nn.ModuleDict
    batch: Tensor
    targets: dict[str, Tensor]

    def losses(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        """One cross-entropy per task."""
        return {t: F.cross_entropy(h(views[t]), self.targets[t]) for t, h in self.heads.items()}

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


class Encoder(nn.Module):
    """Tokens to one vector."""

    def __init__(self, size: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(1000, size)
        layer = nn.TransformerEncoderLayer(size, 4, 4 * size, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """The mean of the last layer's tokens."""
        out: Tensor = self.layers(self.embed(x)).mean(1)
        return out


def build(name: str, tasks: int, device: str) -> Workload:
    """The workload of that name.

    Args:
        name: ``tiny_mlp``, ``resnet`` or ``transformer``.
        tasks: number of heads.
        device: where it runs.
    """
    torch.manual_seed(0)
    trunk: nn.Module
    if name == "tiny_mlp":
        trunk, size = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()), 64
        batch = torch.randn(64, 32)
    elif name == "resnet":
        trunk, size = _resnet(16), 128
        batch = torch.randn(64, 3, 32, 32)
    elif name == "transformer":
        trunk, size = Encoder(128, 4), 128
        batch = torch.randint(0, 1000, (32, 64))
    else:
        raise ValueError(f"no workload is called {name!r}")
    heads = nn.ModuleDict({f"task{k}": nn.Linear(size, 10) for k in range(tasks)})
    targets = {t: torch.randint(0, 10, (len(batch),), device=device) for t in heads}
    return Workload(name, trunk.to(device), heads.to(device), batch.to(device), targets)


WORKLOADS = ("tiny_mlp", "resnet", "transformer")
