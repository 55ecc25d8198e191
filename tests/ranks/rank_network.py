"""A small network, its batches, and losses that are means over labelled examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

TASKS = ("left", "right", "rebuild")
EXAMPLES = 12


@dataclass
class Batch:
    """Examples, their targets and, by task, which of them have a label (0 or 1)."""

    x: Tensor
    y: dict[str, Tensor]
    labelled: dict[str, Tensor]

    def part(self, sizes: Sequence[int], rank: int) -> Batch:
        """The examples of one rank, in rank order."""
        first = sum(sizes[:rank])
        mine = slice(first, first + sizes[rank])
        return Batch(
            self.x[mine],
            {task: y[mine] for task, y in self.y.items()},
            {task: of_task[mine] for task, of_task in self.labelled.items()},
        )

    def counts(self) -> dict[str, int]:
        """Labelled examples by task."""
        return {task: int(of_task.sum()) for task, of_task in self.labelled.items()}


def batch(number: int) -> Batch:
    """The whole batch of that number; its examples grow, so that no two parts are alike."""
    g = torch.Generator().manual_seed(1000 + number)
    grow = torch.linspace(0.4, 1.8, EXAMPLES, dtype=torch.float64).unsqueeze(1)
    x = grow * torch.randn(EXAMPLES, 6, dtype=torch.float64, generator=g)
    return Batch(
        x,
        {
            "left": torch.randint(4, (EXAMPLES,), generator=g),
            "right": grow + torch.randn(EXAMPLES, 2, dtype=torch.float64, generator=g),
            "rebuild": x[:, :3].sin(),
        },
        {task: torch.ones(EXAMPLES, dtype=torch.float64) for task in TASKS},
    )


class Network(nn.Module):
    """Trunk and heads. ``forward`` gives the losses, the outputs, or a balanced loss."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh())
        self.heads = nn.ModuleDict(
            {
                "left": nn.Linear(5, 4),
                "right": nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)),
                "rebuild": nn.Linear(5, 3),
            }
        )

    def forward(
        self,
        data: Batch,
        share: Callable[[Tensor], Mapping[str, Tensor]],
        finish: Callable[[dict[str, Tensor], Batch], Any],
    ) -> Any:
        """``finish`` makes of the heads' outputs what is returned."""
        views = share(self.trunk(data.x))
        # A head none of whose examples has a label is not run.
        have = [task for task in TASKS if data.counts()[task]]
        return finish({task: self.heads[task](views[task]) for task in have}, data)


def new_network() -> Network:
    """The same network every time, whatever the default generator's state.

    Of this one the task gradients conflict, and differently on the halves of a batch, so that methods
    that do something only then have something to do.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(51)
        return Network().double()


def alone(features: Tensor) -> dict[str, Tensor]:
    """What the heads read when nothing is shared through a balancer."""
    return dict.fromkeys(TASKS, features)


def losses_of(out: dict[str, Tensor], data: Batch) -> dict[str, Tensor | None]:
    """Means over the labelled examples; None where there are none."""
    losses: dict[str, Tensor | None] = {}
    for task in TASKS:
        mask = data.labelled[task]
        if task not in out or not mask.any():
            losses[task] = None
            continue
        if task == "left":
            each = nn.functional.cross_entropy(out[task], data.y[task], reduction="none")
        elif task == "right":
            each = 0.3 * (out[task] - data.y[task]).square().sum(1)
        else:
            each = 0.3 * (out[task] - data.y[task]).abs().add(0.1).square().mean(1)
        losses[task] = (each * mask).sum() / mask.sum()
    return losses
