"""Your own loop, with one line changed: three tasks of different size on made-up data.

python examples/plain_loop.py --method uw_so
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise import Balancer


class Network(nn.Module):
    """A trunk and a head for each task."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.heads = nn.ModuleDict(
            {"class": nn.Linear(32, 4), "size": nn.Linear(32, 1), "copy": nn.Linear(32, 12)}
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """What each head says, by task."""
        features = self.trunk(x)
        return {task: head(features) for task, head in self.heads.items()}


def made_up(examples: int, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Inputs, and targets for each task; the sizes are in another unit than the rest."""
    x = torch.randn(examples, 12, generator=torch.Generator().manual_seed(seed))
    return x, {
        "class": x[:, :4].argmax(1),
        "size": 30.0 * x[:, 4:8].norm(dim=1, keepdim=True),
        "copy": x,
    }


def losses_of(network: Network, x: Tensor, y: dict[str, Tensor]) -> dict[str, Tensor]:
    """The loss of each task, by name."""
    out = network(x)
    return {
        "class": functional.cross_entropy(out["class"], y["class"]),
        "size": functional.mse_loss(out["size"], y["size"]),
        "copy": functional.mse_loss(out["copy"], y["copy"]),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train three tasks with a balancer.")
    parser.add_argument("--method", default="uw_o")
    parser.add_argument("--steps", type=int, default=400)
    given = parser.parse_args(arguments)

    torch.manual_seed(0)
    network = Network()
    balancer = Balancer(given.method, tasks=["class", "size", "copy"])
    optimizer = torch.optim.Adam(
        [{"params": network.parameters()}, *balancer.param_groups(lr=0.01)], lr=2e-3
    )
    x, y = made_up(2048, seed=1)
    validation = made_up(512, seed=2)

    for step in range(given.steps):
        rows = torch.randint(len(x), (64,))
        losses = losses_of(network, x[rows], {task: target[rows] for task, target in y.items()})
        loss = balancer(losses)  # was: sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0 or step == given.steps - 1:
            weights = ", ".join(f"{task} {w:.3g}" for task, w in balancer.weights.items())
            print(f"step {step:4d}   weights: {weights or 'none, a direction'}")

    print(balancer.explain())
    with torch.no_grad():
        for task, value in losses_of(network, *validation).items():
            print(f"validation loss, {task}: {value.item():.4g}")


if __name__ == "__main__":
    main()
