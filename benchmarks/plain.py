"""Whole training steps with a method's solver in plain floats, against the same solver in batched torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import equipoise
from equipoise.methods.base import GramianMethod
from steps import timed
from workloads import Workload, build

SOLVED = (
    "mgda",
    "cagrad",
    "dualproj",
    "upgrad",
    "nash_mtl",
    "fairgrad",
    "imtl_g",
    "config",
)


def ten_milliseconds(tasks: int) -> Workload:
    """An MLP whose plain step takes about 10 ms on one thread."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(256, 640), nn.ReLU(), nn.Linear(640, 640), nn.ReLU())
    heads = nn.ModuleDict({f"task{k}": nn.Linear(640, 10) for k in range(tasks)})
    targets = {t: torch.randint(0, 10, (128,)) for t in heads}
    return Workload("10 ms", trunk, heads, torch.randn(128, 256), targets)


def batched(name: str) -> GramianMethod:
    """The method with its Gramian given as a batch of one, which takes the batched way."""
    method = equipoise.method(name)
    assert isinstance(method, GramianMethod)
    alone = method.weights

    def weights(gramian: Tensor, losses: Tensor) -> Tensor:
        return alone(gramian.unsqueeze(0), losses.unsqueeze(0)).squeeze(0)

    method.weights = weights  # type: ignore[method-assign]
    return method


class Stepper:
    """One training step on the features route."""

    def __init__(self, work: Workload, method: str | GramianMethod) -> None:
        self.work = work
        self.balancer = equipoise.Balancer(method, list(work.heads))
        self.optimizer = torch.optim.SGD(work.parameters(), lr=1e-4)

    def __call__(self) -> None:
        """Takes the step."""
        self.optimizer.zero_grad(set_to_none=True)
        views = self.balancer.share(self.work.trunk(self.work.batch))
        torch.autograd.backward(self.balancer(self.work.losses(views)))
        self.optimizer.step()


def compare(methods: Sequence[str], tasks: Sequence[int], rounds: int) -> None:
    """Prints the ratio of the batched step to the plain one, and what of 10 ms it costs."""
    print(
        f"{'step':<10}{'method':<11}{'K':>3}{'plain ms':>10}{'batched ms':>12}{'ratio':>8}{'us':>8}"
    )
    for name in methods:
        for count in tasks:
            for work in (build("tiny_mlp", count, "cpu"), ten_milliseconds(count)):
                one, other = Stepper(work, name), Stepper(work, batched(name))
                for step in (one, other):
                    timed(step, 3, "cpu")
                block = max(1, int(0.1 / timed(one, 3, "cpu")))
                pairs = [
                    (timed(one, block, "cpu"), timed(other, block, "cpu")) for _ in range(rounds)
                ]
                plain = statistics.median(p for p, _ in pairs)
                torch_ = statistics.median(b for _, b in pairs)
                ratio = statistics.median(b / p for p, b in pairs)
                more = statistics.median(b - p for p, b in pairs)
                print(
                    f"{work.name:<10}{name:<11}{count:>3}{plain * 1e3:>10.2f}{torch_ * 1e3:>12.2f}"
                    f"{ratio:>8.3f}{more * 1e6:>8.0f}",
                    flush=True,
                )
