"""Run by two processes: a Trainer with DistributedDataParallel, beside a loop of one process."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from test_trainer import plainly, several, trainer_of
from torch import nn
from two_tasks import TASKS

from equipoise import Balancer

METHODS = ("cagrad", "uw", "dwa", "famo")


def flat(model: nn.Module) -> torch.Tensor:
    named = sorted(model.named_parameters())
    return torch.cat([p.detach().flatten() for name, p in named if "balancer" not in name])


def apart(one: torch.Tensor) -> float:
    """How far the two processes are from each other."""
    both = [torch.empty_like(one) for _ in range(2)]
    dist.all_gather(both, one)
    return float((both[0] - both[1]).abs().max())


def say(what: str, between: float, away: float) -> None:
    if dist.get_rank() == 0:
        print(f"RESULT {what} {between} {away}", flush=True)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    options = {"per_device_train_batch_size": 2, "ddp_backend": "gloo"}
    for method in METHODS:
        alone = flat(plainly(method)[0])
        for inside in (False, True):
            trainer = trainer_of(Balancer(method, TASKS), folder, inside, **options)
            trainer.train()
            got = flat(trainer.model)
            away = float((got - alone).abs().max())
            say(f"{method} {'inside' if inside else 'beside'}", apart(got), away)
    trainer = several(folder, "dwa", ddp_find_unused_parameters=True, **options)
    trainer.train()
    say("tasks beside", apart(flat(trainer.model)), 0.0)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
