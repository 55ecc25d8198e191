"""One gradient method by its two routes: gradients at the parameters, and at the shared features.

The features route goes backwards through the trunk once, whatever the number of tasks. Its weights are not
those of the parameters route: the gradients are taken somewhere else. This prints both, and counts.

Run it with ``python examples/features_route.py --method mgda``.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise import Balancer

TASKS = ["class", "size", "copy"]


def build() -> tuple[nn.Module, nn.ModuleDict]:
    """A trunk and three heads."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
    heads = nn.ModuleDict(
        {"class": nn.Linear(32, 4), "size": nn.Linear(32, 1), "copy": nn.Linear(32, 12)}
    )
    return trunk, heads


def losses_of(out: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """The loss of each task, by name."""
    return {
        "class": functional.cross_entropy(out["class"], x[:, :4].argmax(1)),
        "size": functional.mse_loss(out["size"], x[:, 4:8].norm(dim=1, keepdim=True)),
        "copy": functional.mse_loss(out["copy"], x),
    }


def train(method: str, route: str, steps: int) -> tuple[Balancer, dict[str, float], int]:
    """Trains; the balancer, the last losses, and how often a step went backwards through the trunk."""
    trunk, heads = build()
    balancer = Balancer(method, TASKS, route=route)
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=2e-3)
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    trunk[0].register_full_backward_hook(count)
    for _ in range(steps):
        x = torch.randn(64, 12)
        features = trunk(x.requires_grad_())
        shared = route == "features"
        views = balancer.share(features) if shared else dict.fromkeys(TASKS, features)
        losses = losses_of({task: heads[task](views[task]) for task in TASKS}, x.detach())
        optimizer.zero_grad()
        balancer(losses).backward()
        optimizer.step()
    return balancer, {task: loss.item() for task, loss in losses.items()}, passes // steps


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Compare the two routes of a gradient method.")
    parser.add_argument("--method", default="mgda")
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args(arguments)
    for route in ("parameters", "features"):
        balancer, losses, passes = train(given.method, route, given.steps)
        print(f"{route} route: {passes} backward pass(es) through the trunk a step")
        for task, loss in losses.items():
            weight = balancer.weights.get(task)
            shown = "" if weight is None else f"   weight {weight:.3f}"
            print(f"  {task:<6} loss {loss:.4f}{shown}")


if __name__ == "__main__":
    main()
