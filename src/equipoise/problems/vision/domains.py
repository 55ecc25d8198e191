"""A domain a task: what the problems over Office have in common."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from equipoise.nn import architecture
from equipoise.problems.base import Problem, SplitName
from equipoise.problems.metrics import accuracy
from equipoise.problems.per_task import PerTask, TaskSampler
from equipoise.problems.tasks import Task
from equipoise.problems.vision.domain_folders import SEED, SPLITS, Domains
from equipoise.problems.vision.image_source import ImageSource
from equipoise.problems.vision.image_trunks import image_trunk

# Side of what a square is cut from, and of the square, as in training on ImageNet.
WHOLE, SQUARE = 256, 224
# Images of 224 pixels that go through a network at a time when it is scored.
PIECE = 64


def domains_problem(
    of: Domains,
    name: str,
    about: str,
    cite: str,
    *,
    arch: str,
    network: str,
    width: int | None,
    weights: str | None,
    size: int,
    augment: bool,
    sampling: str | float,
    rows: int | None,
) -> Problem:
    """A classification of images, each domain a task with data of its own.

    Args:
        of: the data set.
        name: of the problem.
        about: what it is.
        cite: where it comes from.
        arch: architecture.
        network: see :func:`~equipoise.problems.vision.image_trunks.image_trunk`.
        width: of it.
        weights: file to begin with.
        size: height and width of what the network is given.
        augment: whether training images are cut from slightly larger ones at random, and mirrored.
        sampling: ``"together"`` or the temperature of a :class:`TaskSampler`.
        rows: training images of a domain at most.

    Raises:
        ValueError: an option makes no sense.
        DataError: the data is not there, or wrong.
    """
    if size < 8 or (rows is not None and rows < 4):
        raise ValueError(f"size is {size} and rows {rows}; give a size of 8 and rows of 4 or more")
    draw = _draw(sampling)
    trunk = image_trunk(network, width, weights)
    classes = len(of.listing(of.data.folder()).classes)

    def data(split: SplitName) -> PerTask:
        folder = of.data.folder()
        return PerTask(
            {d: _examples(of, folder, d, split, size, augment, rows) for d in of.domains}, draw
        )

    def model(names: Sequence[str]) -> nn.Module:
        heads = {name: nn.Linear(trunk.features, classes) for name in names}
        return architecture(arch, trunk, heads)

    return Problem(
        name=name,
        tasks=tuple(
            Task(name=domain, loss=functional.cross_entropy, metrics=(accuracy(),))
            for domain in of.domains
        ),
        data=data,
        model=model,
        piece=PIECE,
        about=about,
        cite=cite,
    )


def _draw(sampling: str | float) -> Literal["together"] | TaskSampler:
    if sampling == "together":
        return "together"
    if isinstance(sampling, str):
        raise ValueError(
            f"sampling is {sampling!r}; give 'together', or a temperature (1: domains are drawn as large as "
            "they are)"
        )
    return TaskSampler(temperature=sampling)


@lru_cache(maxsize=12)
def _examples(
    of: Domains,
    folder: Path,
    domain: str,
    split: SplitName,
    size: int,
    augment: bool,
    rows: int | None,
) -> ImageSource:
    found = of.listing(folder)
    part = SPLITS.index(split)
    number = list(of.domains).index(domain)
    own = np.flatnonzero((found.domains == number) & (found.parts == part))
    if rows is not None:
        draw = np.random.default_rng([SEED, part, number])
        own = np.sort(draw.permutation(own)[: rows if split == "train" else max(rows // 4, 1)])
    side = size * WHOLE // SQUARE if augment else size
    return ImageSource(
        folder=folder,
        recipe=of.recipe(folder, side),
        rows=own,
        targets={domain: torch.from_numpy(found.labels[own])},
        crop=size if augment else None,
        most=PIECE,
    )
