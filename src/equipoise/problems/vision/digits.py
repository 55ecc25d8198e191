"""Two overlapping handwritten digits on one canvas, three tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

from equipoise.nn import Trunk, architecture
from equipoise.problems.base import Problem, SplitName
from equipoise.problems.data import Tensors
from equipoise.problems.metrics import accuracy, rmse
from equipoise.problems.tasks import Task

CANVAS = 12
DIGIT = 8
# One seed for the division and the pairs, not the seed of a trial: every trial sees the same data.
SEED = 2209
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
PARTNERS: dict[SplitName, int] = {"train": 3, "validation": 2, "test": 4}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "litmus": {
        "protocol": "litmus",
        "methods": [
            "ew",
            "rlw",
            "rgw",
            "uw",
            "uw_o",
            # Its paper tunes the temperature; it spends on it the trials that others spend on the
            # learning rate. The values bracket 1 / loss of the three tasks, which is where it acts.
            {
                "id": "uw_so",
                "label": "uw_so",
                "search": {"temperature": [5.0, 30.0, 180.0]},
                "learning_rates": [0.012],
            },
            "imtl_l",
            "mgda",
            "pcgrad",
            "cagrad",
        ],
        "learning_rates": [0.005, 0.012, 0.03],
        "seeds": 5,
        "epochs": 6,
        "batch_size": 64,
        "weight_decay": 0.0001,
    },
    "quick": {
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.012],
        "seeds": 3,
        "epochs": 2,
        "batch_size": 64,
    },
}

Index = NDArray[np.int64]


@lru_cache(maxsize=1)
def images() -> tuple[NDArray[np.float32], Index]:
    """The 1,797 digits that ship with scikit-learn: ``float32[1797, 8, 8]`` in [0, 1], and their classes."""
    flat, classes = load_digits(return_X_y=True)
    return (flat / 16.0).reshape(-1, DIGIT, DIGIT).astype(np.float32), classes.astype(np.int64)


@lru_cache(maxsize=1)
def sources() -> dict[SplitName, Index]:
    """Which images belong to which split: 60, 20 and 20 %, stratified by class.

    They are divided *before* they are paired, so that no image is in two splits.
    """
    _, classes = images()
    every = np.arange(len(classes))
    train, rest = train_test_split(every, train_size=0.6, stratify=classes, random_state=SEED)
    validation, test = train_test_split(
        rest, train_size=0.5, stratify=classes[rest], random_state=SEED
    )
    return {"train": train, "validation": validation, "test": test}


def pairs(split: SplitName) -> Index:
    """The left and the right image of each example, ``int64[N, 2]``.

    Every image of the split is the left one in turn, with partners of another class drawn at random.
    """
    _, classes = images()
    own = sources()[split]
    draw = np.random.default_rng([SEED, SPLITS.index(split)])
    left = np.repeat(own, PARTNERS[split])
    right = draw.choice(own, size=len(left))
    while len(same := np.flatnonzero(classes[left] == classes[right])):
        right[same] = draw.choice(own, size=len(same))
    return np.stack([left, right], axis=1)


@lru_cache(maxsize=3)
def examples(split: SplitName) -> Tensors:
    """Canvases ``Tensor[N, 1, 12, 12]``, classes ``Tensor[N]`` and clean left digits ``Tensor[N, 64]``.

    The left digit lies towards the upper left and the right one towards the lower right, each shifted
    by at most one pixel; where they overlap the brighter pixel shows.
    """
    pixels, classes = images()
    index = pairs(split)
    draw = np.random.default_rng([SEED, 7, SPLITS.index(split)])
    corners = draw.integers(0, 2, size=(len(index), 2, 2))
    corners[:, 1] += CANVAS - DIGIT - 1
    canvas = np.zeros((len(index), CANVAS, CANVAS), dtype=np.float32)
    for example, (pair, places) in enumerate(zip(index, corners, strict=True)):
        for image, (row, column) in zip(pixels[pair], places, strict=True):
            window = canvas[example, row : row + DIGIT, column : column + DIGIT]
            np.maximum(window, image, out=window)
    return Tensors(
        torch.from_numpy(canvas).unsqueeze(1),
        {
            "left": torch.from_numpy(classes[index[:, 0]]),
            "right": torch.from_numpy(classes[index[:, 1]]),
            "reconstruct": torch.from_numpy(pixels[index[:, 0]].reshape(len(index), -1)),
        },
    )


def trunk(width: int) -> Trunk:
    """A small convolutional network from canvases ``[B, 1, 12, 12]`` to features ``[B, width]``."""
    channels = width // 4

    def stages() -> list[nn.Module]:
        return [
            nn.Sequential(nn.Conv2d(1, channels, kernel_size=4, stride=2), nn.ReLU()),
            nn.Sequential(
                nn.Flatten(), nn.Linear(channels * (CANVAS // 2 - 1) ** 2, width), nn.ReLU()
            ),
        ]

    return Trunk(stages, (channels, width))


def digits(
    arch: str = "hard_sharing", width: int = 64, tasks: Sequence[str] | None = None
) -> Problem:
    """Recognise two overlapping digits and restore one of them.

    Args:
        arch: architecture of the network, see :data:`equipoise.nn.ARCHITECTURES`.
        width: number of shared features; the channels of the trunk follow it.
        tasks: some of ``"left"``, ``"right"`` and ``"reconstruct"``; None for all.

    Raises:
        ValueError: ``width`` is below 8, or an architecture or task is unknown.

    References:
        The task layout follows MultiMNIST (Sabour et al., *Dynamic Routing Between Capsules*, NeurIPS
        2017, arXiv:1710.09829); the images are those of Alpaydin and Kaynak (1998), as they ship with
        scikit-learn.
    """
    if width < 8:
        raise ValueError(f"width is {width}, but the digits network needs 8 features or more")

    def model(names: Sequence[str]) -> nn.Module:
        outputs = {"left": 10, "right": 10, "reconstruct": DIGIT * DIGIT}
        heads = {name: nn.Linear(width, outputs[name]) for name in names}
        return architecture(arch, trunk(width), heads)

    return Problem(
        name="digits",
        tasks=(
            Task(name="left", loss=functional.cross_entropy, metrics=(accuracy(),)),
            Task(name="right", loss=functional.cross_entropy, metrics=(accuracy(),)),
            Task(name="reconstruct", loss=functional.mse_loss, metrics=(rmse(),)),
        ),
        data=examples,
        model=model,
        about=(
            "Two different handwritten digits overlap on one canvas. Name the left one, name the right "
            "one, and restore the left one without the other. The squared error of the third task is "
            "far smaller than the cross-entropies of the first two."
        ),
        cite="1,797 digits of Alpaydin and Kaynak (1998), paired as in MultiMNIST (arXiv:1710.09829)",
    ).only(tasks)
