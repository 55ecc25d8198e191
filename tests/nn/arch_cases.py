"""Small trunks, heads and planted tasks that the tests of the architectures share."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.nn import MultiTask, Trunk, architecture

TASKS = ("one", "two", "three")
ROWS = 12


class Tokens(nn.Module):
    """Embeds ids and passes the mask on."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 8)

    def forward(self, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        ids, mask = inputs
        return self.table(ids), mask


class Mixer(nn.Module):
    """Looks at its tokens and at their mean, without those that are masked."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.each = nn.Linear(8, size)
        self.mean = nn.Linear(8, size)

    def forward(self, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, mask = inputs
        mean = (x * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
        return torch.tanh(self.each(x) + self.mean(mean)), mask


class TokenHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 2)

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        x, mask = inputs
        return self.linear((x * mask[..., None]).sum(1))


def flat(stages: int = 2) -> Trunk:
    widths = (6, 8, 5) if stages == 2 else (6, 8, 7, 5)

    def make() -> list[nn.Module]:
        pairs = itertools.pairwise(widths)
        return [nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in pairs]

    return Trunk(make, widths[1:])


def maps() -> Trunk:
    def make() -> list[nn.Module]:
        return [
            nn.Sequential(
                nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1)
            ),
            nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 5, 3, padding=1), nn.Tanh()),
        ]

    return Trunk(make, (4, 5))


def pooled() -> Trunk:
    below = maps()
    tail = nn.Sequential
    return Trunk(lambda: [*below.stages(), tail(nn.AdaptiveAvgPool2d(1), nn.Flatten())], (4, 5, 5))


class Halved(nn.Module):
    """Pools, and passes on where the maxima came from."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return nn.functional.max_pool2d(x, 2, return_indices=True)


class Kept(nn.Module):
    """A convolution of the maps; the places stay."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(inside, outside, 3, padding=1)

    def forward(self, value: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self.layer(value[0]).tanh(), value[1]


class Doubled(nn.Module):
    """Puts the maps where the maxima came from."""

    def forward(self, value: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.max_unpool2d(*value, 2)


def unpooling() -> Trunk:
    """As SegNet: the first stage returns maps and the places of its pooling."""

    def make() -> list[nn.Module]:
        down = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), Halved(), Kept(6, 6), Kept(6, 6))
        up = nn.Sequential(Kept(6, 6), Doubled(), nn.Conv2d(6, 5, 3, padding=1), nn.Tanh())
        return [down, up]

    return Trunk(make, (6, 5))


def tokens() -> Trunk:
    return Trunk(lambda: [Tokens(), Mixer(5)], (8, 5))


def _map_head() -> nn.Module:
    return nn.Conv2d(5, 2, 1)


def _vector_head() -> nn.Module:
    return nn.Linear(5, 2)


# By kind of input: a trunk, a head, inputs.
KINDS: dict[str, tuple[Any, Any, Any]] = {
    "flat": (flat, _vector_head, lambda: torch.randn(ROWS, 6)),
    "maps": (maps, _map_head, lambda: torch.randn(ROWS, 2, 6, 6)),
    "pooled": (pooled, _vector_head, lambda: torch.randn(ROWS, 2, 6, 6)),
    "unpooling": (unpooling, _map_head, lambda: torch.randn(ROWS, 2, 4, 4)),
    "tokens": (
        tokens,
        TokenHead,
        lambda: (torch.randint(9, (ROWS, 4)), (torch.arange(4) < 3).float().expand(ROWS, 4)),
    ),
}

# Every architecture, with options that change who reaches what.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "hard_sharing": ("hard_sharing", {}),
    "cross_stitch": ("cross_stitch", {}),
    "cross_stitch early": ("cross_stitch", {"after": [0], "channelwise": True}),
    "cross_stitch never": ("cross_stitch", {"after": []}),
    "nddr": ("nddr", {}),
    "nddr early": ("nddr", {"after": [0]}),
    "mtan segnet": ("mtan", {"form": "segnet"}),
    "mtan resnet": ("mtan", {"form": "resnet"}),
    "mmoe": ("mmoe", {}),
    "mmoe bottom": ("mmoe", {"bottom": 1, "gate": "input"}),
    "mmoe static": ("mmoe", {"gate": "static", "experts": 2}),
    "cgc": ("cgc", {}),
    "cgc bottom": ("cgc", {"bottom": 1, "gate": "input", "shared": 2}),
    "cgc none": ("cgc", {"own": 0, "shared": 2}),
    "ple": ("ple", {}),
    "ple wide": ("ple", {"shared": 2, "own": 2, "gate": "static"}),
    "ltb": ("ltb", {"hard": False, "anneal": 5.0}),
    "ltb two": ("ltb", {"nodes": 2, "warm_up": 2}),
    "dselect_k": ("dselect_k", {}),
    "dselect_k static": ("dselect_k", {"gate": "static", "experts": 3}),
    "adapters": ("adapters", {"rank": 2}),
}

# Those in which there is something that all tasks read.
HANDLES = {
    "hard_sharing",
    "cross_stitch",
    "nddr",
    "mmoe",
    "mmoe bottom",
    "mmoe static",
    "cgc",
    "cgc bottom",
    "cgc none",
    "ltb",
    "ltb two",
    "dselect_k",
    "dselect_k static",
}


def cases(*kinds: str) -> list[tuple[str, str]]:
    """Pairs of a variant and a kind of input it works with."""
    found = []
    for variant in VARIANTS:
        for kind in kinds or KINDS:
            if variant.startswith("mtan") and kind in ("flat", "tokens"):
                continue
            found.append((variant, kind))
    return found


def network(variant: str, kind: str, tasks: tuple[str, ...] = TASKS, seed: int = 0) -> MultiTask:
    """A network, the same every time."""
    torch.manual_seed(seed)
    trunk, head, _ = KINDS[kind]
    name, options = VARIANTS[variant]
    built = architecture(name, trunk(), {task: head() for task in tasks}, **options)
    assert isinstance(built, MultiTask)
    return built


def planted(kind: str, tasks: tuple[str, ...] = TASKS) -> tuple[Any, dict[str, Tensor]]:
    """Inputs, and targets that another network of the kind would give."""
    torch.manual_seed(1)
    inputs = KINDS[kind][2]()
    with torch.no_grad():
        targets = network("hard_sharing", kind, tasks, seed=2).eval()(inputs)
    return inputs, targets


def losses_of(outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
    return {t: (outputs[t] - targets[t]).square().mean() for t in outputs}
