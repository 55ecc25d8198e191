"""How far ``sync="gramian"`` and ``sync="local"`` are from the gradient of the whole batch.

Two processes train a small network on halves of each batch. In every step the gradient is found in all three
ways at the same parameters; the table shows the median distance from the exact one, relative to its length.
Nothing is downloaded; it takes about a minute.

    python examples/sync_distance.py
"""

from __future__ import annotations

import argparse
import os
import socket
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from equipoise import Balancer

METHODS = ("mgda", "pcgrad", "cagrad", "nash_mtl", "imtl_g", "aligned_mtl", "upgrad")
TASKS = ("class", "angle", "size")


class Network(nn.Module):
    """A trunk and three heads."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.heads = nn.ModuleList([nn.Linear(32, 4), nn.Linear(32, 1), nn.Linear(32, 1)])

    def forward(self, x: Tensor) -> list[Tensor]:
        """The heads' outputs."""
        z = self.trunk(x)
        return [head(z) for head in self.heads]


def batch(size: int, step: int) -> tuple[Tensor, list[Tensor]]:
    """Examples with noisy targets of three kinds."""
    g = torch.Generator().manual_seed(step)
    x = torch.randn(size, 16, generator=g)
    noise = torch.randn(size, 6, generator=g)
    classes = (x[:, :4] + 1.5 * noise[:, :4]).argmax(1)
    angle = 2 * (x[:, :1] * x[:, 4:5] + noise[:, 4:5])
    return x, [classes, angle, 0.3 * (x[:, 5:6].abs() + noise[:, 5:])]


def losses_of(out: list[Tensor], y: list[Tensor]) -> dict[str, Tensor]:
    """Means over the examples."""
    mse = nn.functional.mse_loss
    found = nn.functional.cross_entropy(out[0], y[0]), mse(out[1], y[1]), mse(out[2], y[2])
    return dict(zip(TASKS, found, strict=True))


def measure(rank: int, ranks: int, port: int, sizes: list[int], steps: int, told: Any) -> None:
    """One process's part."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    for method in METHODS:
        row: list[str] = []
        for size in sizes:
            torch.manual_seed(0)
            network = Network()
            model = DistributedDataParallel(network)
            optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
            balancers = {
                sync: Balancer(method, TASKS, sync=sync, seed=0) for sync in ("gramian", "local")
            }
            balancers["exact"] = Balancer(method, TASKS, seed=0)
            gaps: dict[str, list[float]] = {"gramian": [], "local": []}
            for step in range(steps):
                x, y = batch(ranks * size, step)
                mine = slice(rank * size, (rank + 1) * size)
                found = {}
                for sync, balancer in balancers.items():
                    optimizer.zero_grad()
                    balancer(losses_of(model(x[mine]), [t[mine] for t in y])).backward()
                    found[sync] = torch.cat([p.grad.flatten() for p in network.trunk.parameters()])
                for sync, of_sync in gaps.items():
                    gap = (found[sync] - found["exact"]).norm() / found["exact"].norm()
                    of_sync.append(float(gap))
                optimizer.step()  # with the exact gradient, which was found last
            row += [f"{torch.tensor(of).median().item():.3f}" for of in gaps.values()]
        if rank == 0:
            told.put((method, row))
    dist.destroy_process_group()


def main() -> None:
    """Starts two processes and prints what they measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 64, 512], help="a process")
    parser.add_argument("--steps", type=int, default=40)
    given = parser.parse_args()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    told = mp.get_context("spawn").SimpleQueue()
    mp.spawn(measure, (2, port, given.sizes, given.steps, told), nprocs=2)
    columns = [f"{sync} {size}" for size in given.sizes for sync in ("gramian", "local")]
    print(f"{'':<12}" + "".join(f"{column:>13}" for column in columns))
    for _ in METHODS:
        method, row = told.get()
        print(f"{method:<12}" + "".join(f"{gap:>13}" for gap in row))


if __name__ == "__main__":
    main()
