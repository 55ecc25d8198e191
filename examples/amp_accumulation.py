"""Mixed precision, gradient accumulation and clipping, with a method that looks at task gradients.

Nothing special is needed on the features route: the balance happens inside the scaled backward pass.

Run it with ``python examples/amp_accumulation.py --dtype bfloat16``.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn
from torch.nn import functional

from equipoise import Balancer

TASKS = ["class", "copy"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train with mixed precision and accumulation.")
    parser.add_argument("--method", default="mgda")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16"])
    parser.add_argument("--steps", type=int, default=60, help="optimiser steps")
    parser.add_argument("--accumulate", type=int, default=4, help="micro-batches a step")
    given = parser.parse_args(arguments)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU()).to(device)
    heads = nn.ModuleDict({"class": nn.Linear(32, 4), "copy": nn.Linear(32, 12)}).to(device)
    parameters = [*trunk.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3)
    scaler = torch.amp.GradScaler(device)
    balancer = Balancer(given.method, TASKS)

    for step in range(given.steps):
        for _ in range(given.accumulate):
            x = torch.randn(32, 12, device=device)
            with torch.autocast(device, dtype=getattr(torch, given.dtype)):
                z = balancer.share(trunk(x))
                losses = {
                    "class": functional.cross_entropy(
                        heads["class"](z["class"]), x[:, :4].argmax(1)
                    ),
                    "copy": functional.mse_loss(heads["copy"](z["copy"]), x),
                }
            scaler.scale(balancer(losses) / given.accumulate).backward()
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(parameters, max_norm=1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if step % 20 == 0 or step == given.steps - 1:
            shown = ", ".join(f"{task} {loss.item():.3f}" for task, loss in losses.items())
            print(f"step {step:3d}   losses: {shown}   norm of the balanced gradient: {norm:.3f}")
    print({name: round(value, 3) for name, value in balancer.metrics().items()})


if __name__ == "__main__":
    main()
