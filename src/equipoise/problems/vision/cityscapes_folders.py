"""Cityscapes as its authors hand it out: pictures of streets, of label ids and of disparity."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.problems.files import DataSet, Recipe
from equipoise.problems.vision.dense_tasks import Answer
from equipoise.problems.vision.pictures import IMAGE, Row, antialiased, layout, nearest
from equipoise.problems.vision.pixels import checked, picture

IMAGES, LABELS, DISPARITIES = "leftImg8bit", "gtFine", "disparity"
# Folder and end of the names of images, labels and disparities.
ENDS = {
    IMAGES: "_leftImg8bit.png",
    LABELS: "_gtFine_labelIds.png",
    DISPARITIES: "_disparity.png",
}
# The label ids that are evaluated, in the order of their train ids: the table of the official scripts.
EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
LAST_ID = 33
# The official categories of the 19 classes: flat, construction, object, nature, sky, human, vehicle.
TO_7 = (0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6, 6, 6, 6, 6)
# The arrays of the authors of MTAN hold disparities over the largest number of 16 bits.
LARGEST = 65535


def recipe(
    data: DataSet, folder: Path, part: str, answers: Sequence[Answer], size: tuple[int, int]
) -> Recipe:
    """How images and their answers are read: 19 classes, and disparity over 65535 as inverse depth.

    Args:
        data: whose files these are.
        folder: of the data set.
        part: ``"train"`` or ``"val"``.
        answers: segmentation and inverse depth.
        size: height and width of the rows.

    Raises:
        DataError: there is no image, or an image has no labels or disparities.
    """

    def decode(folder: Path, item: str) -> Row:
        return _row(data, folder, item, size)

    return Recipe(
        key=f"disparity-{part}-{size[0]}x{size[1]}",
        items=_names(data, folder, part),
        layout=layout(answers, size),
        decode=decode,
    )


def _names(data: DataSet, folder: Path, part: str) -> list[str]:
    """``part/city/name`` of all images, without what their names end in."""
    found = {}
    for kind, end in ENDS.items():
        paths = (folder / kind / part).glob(f"*/*{end}")
        found[kind] = {f"{path.parent.name}/{path.name.removesuffix(end)}" for path in paths}
    every = set().union(*found.values())
    if not every:
        raise data.missing(folder / IMAGES / part / f"*/*{ENDS[IMAGES]}")
    for kind, names in found.items():
        gaps = every - names
        if gaps:
            raise data.missing(_path(folder, kind, f"{part}/{min(gaps)}"))
    return [f"{part}/{name}" for name in sorted(every)]


def _path(folder: Path, kind: str, item: str) -> Path:
    return folder / kind / f"{item}{ENDS[kind]}"


def _row(data: DataSet, folder: Path, item: str, size: tuple[int, int]) -> Row:
    paths = {kind: _path(folder, kind, item) for kind in ENDS}
    image = picture(data, paths[IMAGES], ["RGB"])
    whole = image.shape[:2]
    labels = picture(data, paths[LABELS], ["L", "I"])
    labels = checked(
        labels.astype(np.int16), "classes", whole, partial(data.wrong, paths[LABELS]), 128
    )
    if labels.max() > LAST_ID:
        raise data.wrong(paths[LABELS], f"there is a label id of {labels.max()} beyond {LAST_ID}")
    # Pillow has called pictures of 16 bits by both names.
    disparity = picture(data, paths[DISPARITIES], ["I", "I;16"]).astype(np.float32)
    disparity = checked(disparity, "inverse_depth", whole, partial(data.wrong, paths[DISPARITIES]))
    found: dict[str, Any] = {
        IMAGE: antialiased(image, size),
        "segmentation": train_ids()[nearest(labels, size)],
        "depth": inverse_depth(nearest(disparity, size)),
    }
    return found


def train_ids() -> NDArray[np.int8]:
    """The class of 19, or -1, by label id."""
    found = np.full(LAST_ID + 1, -1, np.int8)
    found[list(EVALUATED)] = np.arange(len(EVALUATED))
    return found


def to_7(classes: NDArray[np.int8]) -> NDArray[np.int8]:
    """The category, or -1, of classes of 19."""
    found: NDArray[np.int8] = np.array([*TO_7, -1], np.int8)[classes]
    return found


def inverse_depth(stored: NDArray[Any]) -> NDArray[np.float32]:
    """The numbers of MTAN's arrays, of a stored disparity p: p / 65535, and so none where p is 0."""
    found: NDArray[np.float32] = stored.astype(np.float32) / np.float32(LARGEST)
    return found
