"""A network of two tasks that every adapter trains, and the plain loop to compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from equipoise import Balancer

TASKS = ["one", "two"]
Batch = dict[str, Tensor]


class Net(nn.Module):
    """A trunk, a head a task."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
        self.heads = nn.ModuleDict({task: nn.Linear(8, 1) for task in TASKS})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        z = self.trunk(x)
        return {task: head(z).squeeze(-1) for task, head in self.heads.items()}


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def rows(count: int = 24, seed: int = 1) -> list[Batch]:
    """Examples."""
    random = torch.Generator().manual_seed(seed)
    return [
        {
            "x": torch.randn(4, generator=random),
            "one": torch.randn((), generator=random),
            "two": 5 * torch.randn((), generator=random),
        }
        for _ in range(count)
    ]


def batches(size: int = 4, count: int = 24) -> list[Batch]:
    examples = rows(count)
    return [
        {
            name: torch.stack([each[name] for each in examples[at : at + size]])
            for name in ("x", *TASKS)
        }
        for at in range(0, count, size)
    ]


def losses_of(outputs: dict[str, Tensor], batch: Any) -> dict[str, Tensor]:
    return {task: (outputs[task] - batch[task]).square().mean() for task in TASKS}


def plain_loop(
    model: nn.Module,
    balancer: Balancer,
    optimizer: torch.optim.Optimizer,
    epochs: Iterable[list[Batch]],
    accumulate: int = 1,
    losses: Callable[[nn.Module, Batch], dict[str, Tensor]] = lambda m, b: losses_of(m(b["x"]), b),
) -> list[dict[str, float]]:
    """Trains as a script would; the metrics of each optimiser step."""
    told = []
    for epoch in epochs:
        for number, batch in enumerate(epoch, start=1):
            (balancer(losses(model, batch)) / accumulate).backward()
            if number % accumulate:
                continue
            optimizer.step()
            optimizer.zero_grad()
            balancer.after_step(lambda batch=batch: losses(model, batch))
            told.append(balancer.metrics())
        balancer.end_epoch()
    return told


def same(one: nn.Module, other: nn.Module) -> bool:
    """Bit for bit; NaN stands for what is not known yet."""
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(
        mine[k].shape == theirs[k].shape
        and torch.allclose(mine[k].double(), theirs[k].double(), rtol=0, atol=0, equal_nan=True)
        for k in mine
    )
