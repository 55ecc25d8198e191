"""Whether reading images keeps a network waiting: images a second that are read, over those it trains on.

Usage: python benchmarks/loading.py [PROBLEM ...] [--threads N] [--batch N] [--steps N] [--prepared]

The small data sets of the tests are written to a temporary folder, in the published size where the fixture
has one. Both are measured in this process, in seconds of its processor, which other processes change little:
a ratio of 3 says that a third of what trains keeps up with the training. ``--prepared`` decodes everything
first, as ``equipoise data prepare`` does. Nothing is kept in memory between epochs, as where the whole does
not fit.

    python benchmarks/loading.py celeba --batch 64 --threads 1
    python benchmarks/loading.py celeba --batch 64 --threads 1 --prepared
"""

from __future__ import annotations

import argparse
import inspect
import os
import runpy
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from equipoise.problems import Problem, data_sets, problem
from equipoise.problems.catalogue import builder
from equipoise.problems.files import build
from equipoise.problems.vision import image_source

FIXTURES = Path(__file__).parents[1] / "tests" / "problems" / "fixtures"


def written(name: str, root: Path) -> Problem:
    """The problem on files of its fixture."""
    fixture = runpy.run_path(str(FIXTURES / f"{name}.py"))
    fixture.get("write_full", fixture["write"])(root)
    options: dict[str, Any] = fixture.get("FULL_OPTIONS", fixture["OPTIONS"])
    if "network" in inspect.signature(builder(name)).parameters:
        options = {"network": "resnet18", **options}
    return problem(name, **options)


def endless(made: Problem, batch: int) -> Iterator[Any]:
    """Training batches, epoch after epoch."""
    source, epoch = made.source("train"), 0
    while True:
        yield from source.batches(batch, epoch)
        epoch += 1


def seconds(work: Callable[[], Any], times: int) -> float:
    """Of the processor, for each time."""
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times


def measured(name: str, root: Path, batch: int, steps: int, prepared: bool) -> tuple[float, float]:
    """Images a second that are read, and that the network trains on."""
    os.environ["EQUIPOISE_DATA"] = str(root)
    made = written(name, root)
    if prepared:
        for each in data_sets(name):
            for recipe in each.recipes(each.folder()):
                build(each.folder(), recipe)
    model = made.network([task.name for task in made.tasks])
    optimiser = torch.optim.Adam(model.parameters())
    batches = endless(made, batch)
    first = next(batches)

    def step() -> None:
        optimiser.zero_grad()
        torch.stack(list(made.losses_of(model, first).values())).sum().backward()
        optimiser.step()

    reading = seconds(lambda: next(batches), 40)
    training = seconds(step, steps)
    return first.size / reading, first.size / training


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("problems", nargs="*", default=["nyuv2", "cityscapes"])
    words.add_argument("--threads", type=int, default=2)
    words.add_argument("--batch", type=int, default=2)
    words.add_argument("--steps", type=int, default=2)
    words.add_argument("--prepared", action="store_true")
    given = words.parse_args()
    torch.set_num_threads(given.threads)
    image_source.KEPT = 0
    print(f"{'problem':<16}{'read, images/s':>16}{'trained, images/s':>20}{'ratio':>9}")
    for name in given.problems:
        with tempfile.TemporaryDirectory() as folder:
            read, trained = measured(name, Path(folder), given.batch, given.steps, given.prepared)
        print(f"{name:<16}{read:>16.1f}{trained:>20.2f}{read / trained:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
