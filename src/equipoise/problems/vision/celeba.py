"""Forty attributes of a face, a task each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.nn import architecture
from equipoise.nn.batched_heads import BatchedHeads
from equipoise.problems.base import Problem, SplitName
from equipoise.problems.files import DataError, DataSet, Recipe
from equipoise.problems.files.images import Pixels, names_in, pixels, wrong_among
from equipoise.problems.tasks import Metric, Task
from equipoise.problems.vision.celeba_lists import ATTRIBUTES, SPLITS, lists_of, out_of_order
from equipoise.problems.vision.celeba_studies import PRESETS as PRESETS
from equipoise.problems.vision.image_source import IMAGE, ImageSource
from equipoise.problems.vision.image_trunks import image_trunk

IMAGES = "img_align_celeba"
# Height and width of every aligned image of the publisher.
ORIGINAL = (218, 178)
SIZE = 64
# Of the rows that are taken where not all are.
SEED = 2018


def _decode(folder: Path, item: str, side: int) -> Mapping[str, Pixels]:
    return {IMAGE: pixels(folder / item, (side, side))}


def recipe(folder: Path, size: int = SIZE) -> Recipe:
    """All images at a size; the list of attributes tells which there are.

    Args:
        folder: of the data set.
        size: height and width after resizing.

    Raises:
        DataError: a list is missing or wrong.
    """
    return Recipe(
        key=f"faces-{size}",
        items=[f"{IMAGES}/{name}" for name in lists_of(CELEBA, folder).names],
        layout={IMAGE: ((3, size, size), "uint8")},
        decode=partial(_decode, side=size),
    )


def _examine(folder: Path) -> Iterator[str]:
    lists = lists_of(CELEBA, folder)
    yield from out_of_order(CELEBA, folder)
    there = set(names_in(folder / IMAGES))
    gone = [name for name in lists.names if name not in there]
    if gone:
        yield f"{folder / IMAGES / gone[0]}: this image is listed and not there ({len(gone):,} are not)"
    found = (folder / IMAGES / name for name in lists.names if name in there)
    yield from wrong_among(
        found, lambda path: pixels(path, (1, 1), original=ORIGINAL, modes=("RGB",))
    )


CELEBA = DataSet(
    name="celeba",
    page="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    licence="research that is not commercial; not to be passed on",
    files={
        f"{IMAGES}/000001.jpg": None,
        "Anno/list_attr_celeba.txt": "75e246fa4810816ffd6ee81facbd244c",
        "list_attr_celeba.txt": "75e246fa4810816ffd6ee81facbd244c",
        "Eval/list_eval_partition.txt": "d32c9cbf5e040fd4025c592c306e6668",
        "list_eval_partition.txt": "d32c9cbf5e040fd4025c592c306e6668",
    },
    one_of=(
        ("Anno/list_attr_celeba.txt", "list_attr_celeba.txt"),
        ("Eval/list_eval_partition.txt", "list_eval_partition.txt"),
    ),
    examine=_examine,
    recipes=lambda folder: [recipe(folder)],
)
DATA = (CELEBA,)


def examples(
    split: SplitName, size: int = SIZE, rows: int | None = None, loss: str = "ce"
) -> ImageSource:
    """Faces ``Tensor[N, 3, size, size]`` and an attribute each, ``Tensor[N]``.

    Raises:
        DataError: a list is wrong, or an image that it names is not there.
    """
    return _examples(CELEBA.folder(), split, size, rows, loss)


@lru_cache(maxsize=6)
def _examples(
    folder: Path, split: SplitName, size: int, rows: int | None, loss: str
) -> ImageSource:
    lists = lists_of(CELEBA, folder)
    own = np.flatnonzero(lists.part == SPLITS.index(split))
    if rows is not None:
        most = rows if split == "train" else max(rows // 4, 1)
        draw = np.random.default_rng([SEED, SPLITS.index(split)])
        own = np.sort(draw.permutation(own)[:most])
    labels = torch.from_numpy(lists.labels[own])
    kind = torch.int64 if loss == "ce" else torch.float32
    found = ImageSource(
        folder=folder,
        recipe=recipe(folder, size),
        rows=own,
        targets={name: labels[:, k].to(kind) for k, name in enumerate(ATTRIBUTES)},
    )
    if found.prepared is None:
        _refuse_missing(folder, [lists.names[row] for row in own])
    return found


def _refuse_missing(folder: Path, names: Sequence[str]) -> None:
    """One listing, before the first image is asked for: what is missing is not found after hours."""
    there = set(names_in(folder / IMAGES))
    gone = [name for name in names if name not in there]
    if gone:
        raise DataError(
            folder / IMAGES / gone[0],
            f"this image is listed and not there ({len(gone):,} of {len(names):,} are not)",
            f"unpack {IMAGES}.zip anew, which {CELEBA.page} leads to",
        )


def _binary(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(outputs.squeeze(-1), targets)


def _errors(outputs: Tensor, targets: Tensor) -> float:
    """Percent of wrong answers, of two classes or of one logit."""
    said = outputs.argmax(-1) if outputs.shape[-1] == 2 else outputs.squeeze(-1) > 0
    return 100.0 * float((said != targets.bool()).double().mean())


def _right(outputs: Tensor, targets: Tensor) -> float:
    return 100.0 - _errors(outputs, targets)


def _mean_error(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> float:
    return sum(_errors(outputs[name], targets[name]) for name in targets) / len(targets)


METRICS = {
    "accuracy": Metric(name="accuracy", score=_right, higher_is_better=True, unit="%"),
    "error": Metric(name="error", score=_errors, higher_is_better=False, unit="%"),
}
LOSSES: Mapping[str, Callable[[Any, Any], Tensor]] = {
    "ce": functional.cross_entropy,
    "bce": _binary,
}


def celeba(
    arch: str = "hard_sharing",
    network: str = "resnet18",
    width: int | None = None,
    tasks: Sequence[str] | None = None,
    size: int = SIZE,
    loss: str = "ce",
    metrics: Sequence[str] = ("accuracy", "error"),
    rows: int | None = None,
    batched_heads: bool = False,
) -> Problem:
    """Forty attributes of a face, such as ``"Smiling"`` and ``"Wearing_Hat"``, a task each.

    Args:
        arch: architecture.
        network: ``"resnet18"`` or ``"small"``.
        width: of the network, see :func:`image_trunk`; None for its own.
        tasks: some of the attributes; None for all.
        size: height and width to which faces of any size are resized.
        loss: ``"ce"``, the cross-entropy of two outputs an attribute; ``"bce"``, that of one.
        metrics: ``"accuracy"``, ``"error"`` or both, of each attribute.
        rows: training examples at most, drawn once for all; a quarter of it each for validation and test.
        batched_heads: compute all heads as one, which saves time where each is a kernel of its own on a GPU;
            with hard sharing only.

    Raises:
        ValueError: there is no such task, network, loss or metric, or a number is too small.
        DataError: the data is not there, or wrong.

    References:
        Liu et al., *Deep Learning Face Attributes in the Wild*, ICCV 2015, arXiv:1411.7766; an attribute a
        task as in Sener and Koltun, *Multi-Task Learning as Multi-Objective Optimization*, NeurIPS 2018,
        arXiv:1810.04650.
    """
    if loss not in LOSSES:
        raise ValueError(f"there is no loss {loss!r} of celeba; known: {', '.join(LOSSES)}")
    odd = [name for name in metrics if name not in METRICS]
    if odd or not metrics:
        raise ValueError(f"metrics is {list(metrics)}; give some of: {', '.join(METRICS)}")
    if size < 8 or (rows is not None and rows < 4):
        raise ValueError(f"size is {size} and rows {rows}; give a size of 8 and rows of 4 or more")
    if batched_heads and arch != "hard_sharing":
        raise ValueError(f"batched_heads goes with arch 'hard_sharing', not with {arch!r}")
    trunk = image_trunk(network, width)

    def model(names: Sequence[str]) -> nn.Module:
        outputs = 2 if loss == "ce" else 1
        heads: Any = {name: nn.Linear(trunk.features, outputs) for name in names}
        if batched_heads:
            heads = BatchedHeads(heads)
        return architecture(arch, trunk, heads)

    return Problem(
        name="celeba",
        tasks=tuple(
            Task(name=name, loss=LOSSES[loss], metrics=tuple(METRICS[each] for each in metrics))
            for name in ATTRIBUTES
        ),
        data=partial(examples, size=size, rows=rows, loss=loss),
        model=model,
        metrics=(Metric(name="mean error", score=_mean_error, higher_is_better=False, unit="%"),),
        piece=256,
        about=(
            "What a face has and wears, forty yes-or-no questions about one aligned photograph. Some are "
            "rare (2 % are bald) and some are about half and half."
        ),
        cite="CelebA, Liu et al. (arXiv:1411.7766), in its publishers' partition",
    ).only(tasks)
