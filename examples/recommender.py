"""A recommender: did a shown item get a click, and did the click become a purchase?

Conversion has a label only where there was a click. Its loss is a mean over those rows, and the task is
absent from a batch that has none. The data are made up, so that what would have been bought without a click
is known too; "missing as 0" is the mistake to compare with.

python examples/recommender.py --methods ew,uw,mgda
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise import Balancer
from equipoise.nn import MMoE, Trunk

TASKS = ("click", "conversion")
FEATURES = 24


class Rows(NamedTuple):
    """Features ``[N, F]``, clicks ``[N]``, and purchases ``[N]``, known to nobody where there is no click."""

    x: Tensor
    click: Tensor
    bought: Tensor


def made_up(rows: int, seed: int) -> Rows:
    """Clicks follow one taste, purchases another that is partly opposed to it, and both are rare."""
    taste = torch.Generator().manual_seed(0)
    first, other = torch.randn(2, FEATURES, 8, generator=taste) / FEATURES**0.5
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, FEATURES, generator=draw)
    lure, use = (x @ first).tanh().sum(1), (x @ other).tanh().sum(1)
    noise = torch.rand(2, rows, generator=draw)
    click = noise[0] < torch.sigmoid(1.2 * lure - 2.0)
    bought = noise[1] < torch.sigmoid(1.2 * use - 0.5 * lure - 1.5)
    return Rows(x, click.float(), bought.float())


def network(width: int) -> MMoE:
    """Four experts, and a gate a task that looks at the input."""
    trunk = Trunk.of(
        lambda: nn.Sequential(
            nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        ),
        width,
    )
    heads = {task: nn.Linear(width, 1) for task in TASKS}
    return MMoE(trunk, heads, experts=4, gate="input", inputs=FEATURES)


def losses_of(model: MMoE, batch: Rows, missing: str) -> dict[str, Tensor | None]:
    """The losses by task; None where the batch says nothing about one."""
    out = {task: logit.squeeze(1) for task, logit in model(batch.x).items()}
    loss = functional.binary_cross_entropy_with_logits
    clicked = batch.click.bool()
    if missing == "0":
        conversion = loss(out["conversion"], batch.bought * batch.click)
    elif clicked.any():
        conversion = loss(out["conversion"][clicked], batch.bought[clicked])
    else:
        conversion = None
    return {"click": loss(out["click"], batch.click), "conversion": conversion}


def auc(scores: Tensor, labels: Tensor) -> float:
    """How often a positive is ranked above a negative."""
    positive = labels.bool()
    ranks = scores.argsort().argsort().double() + 1
    p, n = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - p * (p + 1) / 2) / (p * n))


def train(
    method: str,
    *,
    seed: int,
    rows: int,
    epochs: int,
    batch: int,
    width: int,
    missing: str = "absent",
) -> dict[str, float]:
    """Trains a network; three AUCs on rows it has not seen."""
    torch.manual_seed(seed)
    model, data, test = (
        network(width),
        made_up(rows, seed=2 * seed + 1),
        made_up(8000, seed=2 * seed + 2),
    )
    balancer = Balancer(method, TASKS, seed=seed)
    optimizer = torch.optim.Adam(
        [{"params": model.parameters()}, *balancer.param_groups(lr=0.01)], lr=2e-3
    )
    for _ in range(epochs):
        for chosen in torch.randperm(rows).split(batch):
            losses = losses_of(model, Rows(*(column[chosen] for column in data)), missing)
            balancer(losses).backward()
            optimizer.step()
            optimizer.zero_grad()
        balancer.end_epoch()
    with torch.no_grad():
        out = {task: logit.squeeze(1) for task, logit in model(test.x).items()}
    clicked = test.click.bool()
    return {
        "click": auc(out["click"], test.click),
        "bought if clicked": auc(out["conversion"][clicked], test.bought[clicked]),
        "bought at all": auc(out["conversion"], test.bought),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Learn clicks and conversions.")
    parser.add_argument("--methods", default="ew,uw,mgda", help="the first is compared with")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=32)
    given = parser.parse_args(arguments)

    sizes = {"rows": given.rows, "epochs": given.epochs, "batch": given.batch, "width": given.width}
    plain: list[dict[str, float]] = []
    runs = [(method, "absent") for method in given.methods.split(",")]
    for method, missing in [*runs, (runs[0][0], "0")]:
        start = time.perf_counter()
        found = [train(method, seed=s, missing=missing, **sizes) for s in range(given.seeds)]
        means = {name: sum(f[name] for f in found) / len(found) for name in found[0]}
        shown = ", ".join(f"{name} {mean:.3f}" for name, mean in means.items())
        label = method if missing == "absent" else f"{method}, missing as 0"
        print(f"{label:<18} AUC: {shown}   ({time.perf_counter() - start:.0f} s)")
        plain = plain or found
        if found is not plain:
            wins = (
                f"{name} {sum(a[name] > b[name] for a, b in zip(found, plain, strict=True))}"
                for name in means
            )
            print(f"{'':<18} seeds of {given.seeds} above the plain sum: {', '.join(wins)}")


if __name__ == "__main__":
    main()
