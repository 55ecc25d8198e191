"""QMNIST: which digit it is, who wrote it, and in which of two groups of people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from equipoise.nn import architecture
from equipoise.nn.backbones.lenet import lenet, lenet_head
from equipoise.problems.base import Problem, SplitName
from equipoise.problems.data import Tensors
from equipoise.problems.files import DataError
from equipoise.problems.files.idx import (
    CLASSES,
    DIGIT,
    MNIST,
    QMNIST,
    SERIES,
    SIDE,
    STUDENTS,
    WRITER,
    pictures,
    written_by,
)
from equipoise.problems.metrics import accuracy
from equipoise.problems.tasks import Metric, Task

DATA = (MNIST, QMNIST)
TASKS = ("digit", "series", "writer")
# Of the division within each writer, and of the order in which writers are left out.
SEED = 1905
HELD = 0.15

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "litmus": {
        "methods": ["uw", "uw_o", "imtl_l", "mgda", "pcgrad", "cagrad"],
        "learning_rates": [0.001, 0.003],
        "weight_decay": 0.01,
        "seeds": 5,
        "epochs": 15,
        "batch_size": 128,
    },
    # The official division, by people: no writer of the test is in training.
    "new_writers": {
        "methods": ["uw", "uw_o", "imtl_l", "mgda", "pcgrad", "cagrad"],
        "learning_rates": [0.001, 0.003],
        "weight_decay": 0.01,
        "seeds": 5,
        "epochs": 15,
        "batch_size": 128,
        "problem_options": {"tasks": ["digit", "series"]},
    },
    "quick": {
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.003],
        "seeds": 3,
        "epochs": 10,
        "batch_size": 64,
        "problem_options": {"writers": 30},
    },
}


def qmnist(
    arch: str = "hard_sharing",
    width: int = 10,
    tasks: Sequence[str] | None = None,
    writers: int | None = None,
    rows: int | None = None,
) -> Problem:
    """Tell the digit, the group of people, and the writer, from the image of a digit.

    With the task ``"writer"`` the 60,000 training images are divided within each writer, 70, 15 and 15 %.
    Without it the division is the official one, by people, and the last sixth of the training images is
    for validation.

    Args:
        arch: the architecture; see :func:`equipoise.nn.architecture`.
        width: of LeNet; it has five times as many features.
        tasks: some of ``"digit"``, ``"series"`` and ``"writer"``; None for all.
        writers: so many of the 539, drawn once and for all, with their images; None for all. Only with the
            task ``"writer"``.
        rows: of each split at most; None for all.

    Raises:
        ValueError: an option makes no sense, or there are not so many writers.

    References:
        Yadav and Bottou, *Cold Case: The Lost MNIST Digits*, NeurIPS 2019, arXiv:1905.10498.
    """
    within = tasks is None or "writer" in tasks
    if writers is not None and (not within or writers < 2):
        raise ValueError(
            f"writers is {writers}; give 2 or more, and only where 'writer' is among the tasks"
        )
    if rows is not None and rows < 2:
        raise ValueError(f"rows is {rows}; give 2 or more, or leave it out for all")

    def data(split: SplitName) -> Tensors:
        folders = MNIST.folder(), QMNIST.folder()
        return _within(folders, split, writers, rows) if within else _official(folders, split, rows)

    def model(names: Sequence[str]) -> nn.Module:
        trunk = lenet(SIDE, width, features=5 * width, dropout=0.0)
        hidden = trunk.features
        outputs = {"digit": CLASSES, "series": 2}
        if "writer" in names:
            outputs["writer"] = len(chosen_writers(writers))
        heads = {task: lenet_head(hidden, outputs[task], hidden, 0.0) for task in names}
        return architecture(arch, trunk, heads)

    return Problem(
        name="qmnist",
        tasks=(
            _task("digit", accuracy()),
            _task("series", accuracy()),
            _task("writer", accuracy(), top(5)),
        ),
        data=data,
        model=model,
        about=(
            "One handwritten digit, three questions of very different difficulty: which digit it is, whether "
            "a census employee or a high-school student wrote it, and which of 539 people."
        ),
        cite="Yadav and Bottou, NeurIPS 2019 (arXiv:1905.10498), on the images of MNIST",
    ).only(tasks)


def top(k: int) -> Metric:
    """Share in percent of rows whose class is among the ``k`` that the network finds likeliest.

    Outputs ``Tensor[N, C]``, targets ``Tensor[N]`` of classes.
    """

    def score(outputs: Tensor, targets: Tensor) -> float:
        likeliest = outputs.topk(min(k, outputs.shape[-1]), dim=-1).indices
        return 100.0 * float((likeliest == targets.unsqueeze(-1)).any(-1).double().mean())

    return Metric(name=f"top{k}", score=score, higher_is_better=True, unit="%")


def chosen_writers(count: int | None) -> NDArray[np.int64]:
    """The numbers of the writers, in rising order; the place of one is its class.

    Raises:
        DataError: the files are missing or wrong.
        ValueError: there are not so many.
    """
    every = np.unique(written_by("train")[:, WRITER])
    if count is None:
        return every
    if count > len(every):
        raise ValueError(f"writers is {count}, but QMNIST has {len(every)} in its training file")
    return np.sort(np.random.default_rng(SEED).permutation(every)[:count])


def divided(writers: NDArray[np.int64]) -> dict[SplitName, NDArray[np.int64]]:
    """The rows of each split, in a random order that is always the same: 70, 15 and 15 % of each writer's."""
    order = np.random.default_rng(SEED).permutation(len(writers))
    # Writer after writer, each in random order: the place of a row within its writer decides.
    rows = order[np.argsort(writers[order], kind="stable")]
    _, first, counts = np.unique(writers[rows], return_index=True, return_counts=True)
    place = np.arange(len(rows)) - np.repeat(first, counts)
    held = np.repeat(np.rint(HELD * counts).astype(np.int64), counts)
    where = np.empty(len(rows), dtype=np.int64)
    where[rows] = np.where(place < held, 1, np.where(place < 2 * held, 2, 0))
    names: tuple[SplitName, ...] = ("train", "validation", "test")
    return {name: order[where[order] == number] for number, name in enumerate(names)}


@lru_cache(maxsize=3)
def _within(
    folders: tuple[Path, ...], split: SplitName, writers: int | None, rows: int | None
) -> Tensors:
    table = written_by("train")
    names = chosen_writers(writers)
    theirs = np.flatnonzero(np.isin(table[:, WRITER], names))
    index = theirs[divided(table[theirs, WRITER])[split]][:rows]
    if not len(index):
        raise DataError(folders[1], f"{split} would have no rows", "take the whole data set")
    found = _tensors(pictures(MNIST, "train").images[index], table[index])
    classes = np.searchsorted(names, table[index, WRITER])
    return Tensors(found.inputs, {**found.targets, "writer": torch.from_numpy(classes)})


@lru_cache(maxsize=3)
def _official(folders: tuple[Path, ...], split: SplitName, rows: int | None) -> Tensors:
    part: Any = "t10k" if split == "test" else "train"
    table, images = written_by(part), pictures(MNIST, part).images
    last = len(table) // 6
    own = {"test": slice(0, None), "train": slice(0, -last), "validation": slice(-last, None)}
    if last < 1:
        raise DataError(folders[1], f"{split} would have no rows", "take the whole data set")
    return _tensors(images[own[split]][:rows], table[own[split]][:rows])


def _tensors(images: NDArray[np.uint8], table: NDArray[np.int64]) -> Tensors:
    return Tensors(
        torch.tensor(images).unsqueeze(1).float().div_(255),
        {
            "digit": torch.from_numpy(table[:, DIGIT].copy()),
            "series": torch.from_numpy(np.isin(table[:, SERIES], STUDENTS).astype(np.int64)),
        },
    )


def _task(name: str, *metrics: Metric) -> Task:
    return Task(name=name, loss=functional.cross_entropy, metrics=metrics)
