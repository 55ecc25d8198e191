"""Small networks with a trunk and a head per task, for tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn

TASKS = ("left", "right", "rebuild")


class Network(nn.Module):
    """A trunk, heads, and three losses of different size."""

    def __init__(self, trunk: nn.Module, heads: dict[str, nn.Module], example: Tensor) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(heads)
        self.example = example

    def losses(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        out = {name: head(views[name]) for name, head in self.heads.items()}
        target = torch.arange(len(self.example)) % 4
        return {
            "left": nn.functional.cross_entropy(out["left"], target),
            "right": nn.functional.cross_entropy(out["right"], (target + 1) % 4),
            "rebuild": 0.05 * (out["rebuild"] - self.example.flatten(1)[:, :6]).square().mean(),
        }


def _heads(width: int) -> dict[str, nn.Module]:
    return {
        "left": nn.Linear(width, 4),
        "right": nn.Sequential(nn.Linear(width, 5), nn.Tanh(), nn.Linear(5, 4)),
        "rebuild": nn.Linear(width, 6),
    }


def mlp() -> Network:
    trunk = nn.Sequential(nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 5), nn.Tanh())
    return Network(trunk, _heads(5), torch.randn(12, 8))


def cnn() -> Network:
    trunk = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Flatten()
    )
    return Network(trunk, _heads(12), torch.randn(10, 2, 6, 6))


class _Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(4, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.inside(x)).mean(1)


def transformer() -> Network:
    return Network(_Pooled(), _heads(8), torch.randn(9, 5, 4))


NETWORKS = {"mlp": mlp, "cnn": cnn, "transformer": transformer}


def build(name: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> Network:
    """The network of that name, with the same weights every time."""
    torch.manual_seed(seed)
    network = NETWORKS[name]().to(dtype)
    network.example = network.example.to(dtype)
    return network


def plain_views(features: Tensor) -> dict[str, Tensor]:
    """What the heads read when nothing is shared through a balancer."""
    return dict.fromkeys(TASKS, features)
