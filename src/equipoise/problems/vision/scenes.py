"""Rendered rooms: what is where, how far away, and which way it faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch

from equipoise.problems.base import Problem, SplitName
from equipoise.problems.data import Tensors
from equipoise.problems.vision import dense_tasks
from equipoise.problems.vision.dense_networks import builder
from equipoise.problems.vision.pictures import image, target
from equipoise.problems.vision.rooms import CLASSES, render

ANSWERS = (
    dense_tasks.classes("segmentation", len(CLASSES)),
    dense_tasks.depth(),
    dense_tasks.normals(),
)
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "litmus": {
        "protocol": "litmus",
        "methods": [
            "uw",
            "uw_o",
            "dwa",
            "imtl_l",
            {"id": "uw_so", "search": {"temperature": [1.0, 3.0, 10.0]}, "learning_rates": [0.003]},
            "mgda",
            "pcgrad",
            "cagrad",
        ],
        "learning_rates": [0.001, 0.003, 0.01],
        "seeds": 5,
        "epochs": 30,
        "batch_size": 16,
        "weight_decay": 1e-5,
        "problem_options": {"rows": 1000},
    },
    "quick": {
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.01],
        "seeds": 3,
        "epochs": 4,
        "batch_size": 8,
        "problem_options": {"rows": 256, "size": [32, 48], "width": 16},
    },
}


@lru_cache(maxsize=6)
def examples(split: SplitName, rows: int, size: tuple[int, int], seed: int) -> Tensors:
    """Rooms of a split: each has a seed of its own, that of the split and its number."""
    found = [render([seed, SPLITS.index(split), row], *size) for row in range(rows)]
    return Tensors(
        torch.stack([image(room.image) for room in found]),
        {
            "segmentation": torch.stack([target(room.classes, "classes") for room in found]),
            "depth": torch.stack([target(room.depth, "depth") for room in found]),
            "normals": torch.stack([target(room.normals, "normals") for room in found]),
        },
    )


def scenes(
    arch: str = "hard_sharing",
    width: int | None = None,
    tasks: Sequence[str] | None = None,
    network: str = "small",
    rows: int = 1000,
    size: Sequence[int] = (64, 96),
    seed: int = 0,
    arch_options: Mapping[str, Any] | None = None,
) -> Problem:
    """Segment rendered rooms, and tell depth and normals.

    Args:
        arch: how tasks share the network, see :func:`equipoise.nn.architecture`.
        width: channels of the network's first stage; None: as published.
        tasks: some of ``"segmentation"``, ``"depth"`` and ``"normals"``; None for all.
        network: of :data:`~equipoise.problems.vision.dense_networks.NETWORKS`.
        rows: rooms for training; validation and test have a quarter of that each.
        size: height and width of the images.
        seed: of the rooms, not of a trial: every trial sees the same data.
        arch_options: of the architecture.

    Raises:
        ValueError: there are too few rooms, or an option is unknown or out of range.
    """
    if rows < 8:
        raise ValueError(
            f"rows is {rows}, but validation and test need two rooms each: give 8 or more"
        )
    high, wide = (int(number) for number in size)
    model = builder(ANSWERS, (high, wide), network, arch, width, options=arch_options)

    def data(split: SplitName) -> Tensors:
        return examples(split, rows if split == "train" else rows // 4, (high, wide), seed)

    return Problem(
        name="scenes",
        tasks=tuple(answer.task for answer in ANSWERS),
        data=data,
        model=model,
        piece=32,
        about=(
            "Rooms with boxes, balls, columns and pictures on the wall, rendered in perspective with "
            "patterns, one lamp and noise. Name what is seen at every pixel, tell how far away it is, and "
            "which way it faces. Some pixels have no label."
        ),
        cite="rendered by this package; the tasks are those of NYUv2 (Silberman et al., ECCV 2012)",
    ).only(tasks)
