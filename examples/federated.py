"""Federated learning: the server combines what clients send by a Gramian method, without a graph.

Every client takes a few steps on its own data and sends how its parameters moved. Stacked, these are rows
like task gradients, ``[clients, parameters]``, and ``method.direction(rows, losses)`` is the server's part.
Nobody's data are like the others', one client is of a rare kind, and in the second half one is broken and
sends ten times the way uphill.

python examples/federated.py
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import equipoise

FEATURES, CLASSES = 8, 4
Client = tuple[Tensor, Tensor]
# Krum and the trimmed mean have to be told how many clients may be broken.
HONEST = {"mean": {}, "mgda": {}, "upgrad": {}, "krum": {"n_byzantine": 1, "n_selected": 5}}
BROKEN = {**HONEST, "trimmed_mean": {"trim_number": 1}}


def made_up(clients: int, examples: int, seed: int) -> list[Client]:
    """Data by client: inputs around a place of its own; the last client's labels follow another rule."""
    g = torch.Generator().manual_seed(seed)
    rule, rare = torch.randn(2, FEATURES, CLASSES, generator=g)
    found = []
    for number in range(clients):
        x = torch.randn(examples, FEATURES, generator=g) + 0.7 * torch.randn(FEATURES, generator=g)
        last = number == clients - 1
        found.append((x, (x @ (0.4 * rule + rare if last else rule)).argmax(1)))
    return found


def network(width: int) -> nn.Module:
    """Small, and the same for everybody."""
    return nn.Sequential(nn.Linear(FEATURES, width), nn.Tanh(), nn.Linear(width, CLASSES))


def sent(model: nn.Module, client: Client, steps: int, rate: float) -> tuple[Tensor, Tensor]:
    """What a client sends: its parameters' way downhill, as a gradient points, and its loss at the start."""
    x, y = client
    start = parameters_to_vector(model.parameters()).detach().clone()
    first = functional.cross_entropy(model(x), y).detach()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    moved = start - parameters_to_vector(model.parameters()).detach()
    vector_to_parameters(start, model.parameters())
    return moved, first


def train(
    name: str, options: dict, *, broken: bool, seed: int, rounds: int, clients: int, steps: int
) -> list[float]:
    """Trains one network for all; the loss of every honest client."""
    torch.manual_seed(seed)
    model, method = network(16), equipoise.method(name, **options)
    data = made_up(clients, 200, seed)
    for _ in range(rounds):
        rows, losses = map(
            torch.stack, zip(*(sent(model, c, steps, 0.2) for c in data), strict=True)
        )
        if broken:
            rows[0] *= -10
        direction = method.direction(rows, losses)
        weights = parameters_to_vector(model.parameters()).detach() - direction
        vector_to_parameters(weights, model.parameters())
    with torch.no_grad():
        found = [functional.cross_entropy(model(x), y).item() for x, y in data]
    return found[1:] if broken else found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Combine clients' updates with Gramian methods.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="of a client in a round")
    given = parser.parse_args(arguments)

    sizes = {"rounds": given.rounds, "clients": given.clients, "steps": given.steps}
    for broken, chosen in ((False, HONEST), (True, BROKEN)):
        print("one client sends ten times the wrong way" if broken else "all clients are honest")
        plain: list[float] = []
        for name, options in chosen.items():
            start = time.perf_counter()
            found = [
                train(name, options, broken=broken, seed=seed, **sizes)
                for seed in range(given.seeds)
            ]
            mean = sum(sum(losses) / len(losses) for losses in found) / len(found)
            worst = [max(losses) for losses in found]
            plain = plain or worst
            better = sum(ours < theirs for ours, theirs in zip(worst, plain, strict=True))
            told = (
                "" if worst is plain else f"   below the mean's in {better} of {given.seeds} runs"
            )
            print(
                f"  {name:<13} loss: mean client {mean:.3f}, worst {sum(worst) / len(worst):.3f}{told}"
                f"   ({time.perf_counter() - start:.1f} s)"
            )


if __name__ == "__main__":
    main()
