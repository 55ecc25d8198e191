"""Two images overlaid on one canvas, a task for each: MultiMNIST and its kin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from equipoise.nn import architecture
from equipoise.nn.backbones.lenet import lenet, lenet_head
from equipoise.problems.base import Problem, SplitName
from equipoise.problems.data import Tensors
from equipoise.problems.files import DataError, DataSet
from equipoise.problems.files.idx import (
    CLASSES,
    FASHION_MNIST,
    MNIST,
    SIDE,
    Part,
    Pictures,
    pictures,
)
from equipoise.problems.metrics import accuracy
from equipoise.problems.tasks import Task

CANVAS = 36
# One seed for the division and the pairs, not the seed of a trial: every trial sees the same data.
SEED = 1810
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
# Canvases that are made at a time, so that their copies in 32 bits stay small.
PIECE = 4096


class Layer(NamedTuple):
    """What lies in one corner: the task that names it, and the data that it is drawn from."""

    task: str
    data: DataSet


class Overlay(NamedTuple):
    """What is overlaid: one image in the upper left corner, one in the lower right."""

    top_left: Layer
    bottom_right: Layer


def own(part: Pictures, split: SplitName, validation: float) -> NDArray[np.int64]:
    """Which images of an official part belong to a split, in a random order that is always the same.

    They are divided *before* they are paired, so that no image is in two splits.
    """
    order = np.random.default_rng([SEED, len(part.classes)]).permutation(len(part.classes))
    if split == "test":
        return order
    held = round(validation * len(order))
    return order[:held] if split == "validation" else order[held:]


def canvases(first: NDArray[np.uint8], second: NDArray[np.uint8], size: int) -> torch.Tensor:
    """Pairs of images overlaid, ``float32[N, 1, size, size]`` in [0, 1].

    The first lies in the upper left corner of a canvas of 36 x 36, the second in the lower right one; where
    they overlap the brighter pixel shows.
    """
    made = torch.empty(len(first), 1, size, size)
    for start in range(0, len(first), PIECE):
        rows = slice(start, start + PIECE)
        canvas = np.zeros((len(first[rows]), CANVAS, CANVAS), dtype=np.uint8)
        canvas[:, :SIDE, :SIDE] = first[rows]
        corner = canvas[:, -SIDE:, -SIDE:]
        np.maximum(corner, second[rows], out=corner)
        piece = torch.from_numpy(canvas).unsqueeze(1).float().div_(255)
        if size != CANVAS:
            piece = functional.interpolate(
                piece, (size, size), mode="bilinear", antialias=True, align_corners=False
            )
        made[rows] = piece
    return made


OVERLAYS: Mapping[str, Overlay] = {
    "multimnist": Overlay(Layer("top_left", MNIST), Layer("bottom_right", MNIST)),
    "multifashion": Overlay(Layer("top_left", FASHION_MNIST), Layer("bottom_right", FASHION_MNIST)),
    "fashion_mnist_mix": Overlay(Layer("digit", MNIST), Layer("item", FASHION_MNIST)),
}


def examples(
    name: str,
    split: SplitName,
    size: int = CANVAS,
    validation: float = 0.2,
    rows: int | None = None,
) -> Tensors:
    """The examples of a split: canvases ``Tensor[N, 1, size, size]`` and classes ``Tensor[N]``.

    Every image of the split lies in the upper left corner once and in the lower right one once.

    Raises:
        DataError: a file is missing or wrong.
    """
    folders = tuple(layer.data.folder() for layer in OVERLAYS[name])
    return _examples(name, folders, split, size, validation, rows)


@lru_cache(maxsize=3)
def _examples(
    name: str,
    folders: tuple[Path, ...],
    split: SplitName,
    size: int,
    validation: float,
    rows: int | None,
) -> Tensors:
    layers = OVERLAYS[name]
    part: Part = "t10k" if split == "test" else "train"
    parts = [pictures(layer.data, part) for layer in layers]
    drawn = [own(each, split, validation) for each in parts]
    count = min(map(len, drawn))
    if count < 2:
        raise DataError(folders[0], f"{split} would have {count} images", "take the whole data set")
    # Half a turn apart: no image meets itself, and none is twice in the first half of the pairs.
    index = [drawn[0][:count][:rows], np.roll(drawn[1][:count], count // 2)[:rows]]
    first, second = (each.images[chosen] for each, chosen in zip(parts, index, strict=True))
    targets = {
        layer.task: torch.from_numpy(each.classes[chosen])
        for layer, each, chosen in zip(layers, parts, index, strict=True)
    }
    return Tensors(canvases(first, second, size), targets)


def overlaid(
    name: str,
    about: str,
    cite: str,
    *,
    arch: str,
    width: int,
    tasks: Sequence[str] | None,
    size: int,
    dropout: float,
    validation: float,
    rows: int | None,
) -> Problem:
    """A problem of :data:`OVERLAYS` with LeNet, and two layers for each task.

    Raises:
        ValueError: an option makes no sense.
    """
    if not 16 <= size <= CANVAS:
        raise ValueError(
            f"size is {size}; canvases have 36 rows, and can be made smaller down to 16"
        )
    if not 0 < validation < 1:
        raise ValueError(f"validation is {validation}; give a share of the images between 0 and 1")
    if rows is not None and rows < 2:
        raise ValueError(f"rows is {rows}; give 2 or more, or leave it out for all")

    def model(names: Sequence[str]) -> nn.Module:
        trunk = lenet(size, width, features=5 * width, dropout=dropout)
        hidden = trunk.features
        heads = {task: lenet_head(hidden, CLASSES, hidden, dropout) for task in names}
        return architecture(arch, trunk, heads)

    return Problem(
        name=name,
        tasks=tuple(
            Task(name=layer.task, loss=functional.cross_entropy, metrics=(accuracy(),))
            for layer in OVERLAYS[name]
        ),
        data=lambda split: examples(name, split, size, validation, rows),
        model=model,
        about=about,
        cite=cite,
    ).only(tasks)
