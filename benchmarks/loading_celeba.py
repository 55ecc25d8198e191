"""Images a second that CelebA's batches come in, against those that a training step of ResNet-18 takes.

Faces of full size (178 x 218, JPEG) become 64 x 64, prepared or decoded on the way; the network has forty
heads. Loading and training are measured in turn in one process, in seconds of the processor over all threads:
what else the machine does slows the clock and not these. The ratio is the median over the rounds; above 1
means that loading takes less of the cores than training does.

    python benchmarks/loading_celeba.py --batch 64 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from equipoise.problems import Batch, Problem, problem
from equipoise.problems.files import PLACE, build
from equipoise.problems.vision import celeba as faces
from equipoise.problems.vision import image_source
from equipoise.problems.vision.celeba_lists import ATTRIBUTES


def written(root: Path, count: int) -> None:
    """Images with about as many bytes as those of CelebA, some 7 kB, and random attributes."""
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    draw = np.random.default_rng(0)
    names = [f"{number + 1:06d}.jpg" for number in range(count)]
    for name in names:
        noise = draw.integers(0, 256, (218, 178, 3), dtype=np.uint8)
        face = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2))
        face.save(folder / "img_align_celeba" / name, quality=90)
    signs = draw.choice(["-1", " 1"], (count, len(ATTRIBUTES)))
    rows = [f"{name} {' '.join(row)}" for name, row in zip(names, signs, strict=True)]
    text = "\n".join([str(count), " ".join(ATTRIBUTES), *rows])
    (folder / "list_attr_celeba.txt").write_text(text)
    parts = [0] * (count - 2) + [1, 2]
    lines = [f"{name} {part}" for name, part in zip(names, parts, strict=True)]
    (folder / "list_eval_partition.txt").write_text("\n".join(lines))


def loading(made: Problem, size: int, seed: int) -> float:
    """Processor seconds of a batch, over an epoch from its first to its last: none is read beforehand."""
    start = time.process_time()
    count = sum(1 for _ in made.source("train").batches(size, seed))
    return (time.process_time() - start) / count


def training(made: Problem, batch: Batch, count: int) -> float:
    """Processor seconds of a step with equal weights on a batch that is there."""
    torch.manual_seed(0)
    model = made.network(ATTRIBUTES)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    start = 0.0
    for step in range(count + 1):
        if step == 1:  # the first one is to warm up
            start = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(list(made.losses_of(model, batch).values()))
        optimizer.step()
    return (time.process_time() - start) / count


def measured(size: int, rounds: int, steps: int) -> dict[str, float]:
    """Processor milliseconds of a batch and of a step, and their ratio."""
    faces._examples.cache_clear()
    made = problem("celeba")
    first = next(iter(made.source("train").batches(size, 0)))
    loads, trains = [], []
    for seed in range(rounds):
        loads.append(loading(made, size, seed))
        trains.append(training(made, first, steps))
    ratios = [step / load for step, load in zip(trains, loads, strict=True)]
    return {
        "load_ms": 1e3 * statistics.median(loads),
        "step_ms": 1e3 * statistics.median(trains),
        "images_a_core_second": size / statistics.median(loads),
        "ratio": statistics.median(ratios),
    }


def main() -> None:
    """Measures both ways and prints a line each, and JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="training steps of a round")
    parser.add_argument("--threads", type=int, default=2, help="of torch; loading takes every core")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    # Every image is decoded each time, as where the data do not fit into memory.
    image_source.KEPT = 0
    found = {}
    with tempfile.TemporaryDirectory() as root:
        os.environ[PLACE] = root
        written(Path(root), given.images)
        for way in ("on the way", "prepared"):
            if way == "prepared":
                build(Path(root) / "celeba", faces.recipe(Path(root) / "celeba"))
            found[way] = measured(given.batch, given.rounds, given.steps)
            print(f"{way:<11}", "  ".join(f"{k} {v:8.1f}" for k, v in found[way].items()))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
