"""NYUv2 as its authors hand it out: one MATLAB file, and others that divide images and merge classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.problems.files import DataSet, Recipe, needs
from equipoise.problems.vision.dense_tasks import Answer
from equipoise.problems.vision.pictures import IMAGE, Row, antialiased, layout, nearest
from equipoise.problems.vision.pixels import checked, matlab

LABELED = "nyu_depth_v2_labeled.mat"
# Of the authors' toolbox: which images are for training and which for the test.
SPLITS = "splits.mat"
# Of Gupta et al., CVPR 2013: 894 names to 40 classes; of Handa et al., SceneNet: these to 13.
TO_40 = "classMapping40.mat"
TO_13 = "class13Mapping.mat"
FILES = (LABELED, SPLITS, TO_40, TO_13)
NAMES = 894


def recipe(data: DataSet, folder: Path, answers: Sequence[Answer], size: tuple[int, int]) -> Recipe:
    """How images and their answers are read: segmentation and depth; there are no normals.

    Raises:
        DataError: a file is missing or broken.
        ImportError: h5py is not installed.
    """
    sets = _opened(data, folder)
    count = len(sets["images"])
    classes = merged(data, folder)

    def decode(folder: Path, item: str) -> Row:
        return _row(data, folder, int(item), classes, size)

    return Recipe(
        key=f"mat-{size[0]}x{size[1]}",
        items=[str(number) for number in range(count)],
        layout=layout(answers, size),
        decode=decode,
    )


def divided(data: DataSet, folder: Path) -> tuple[list[int], list[int]]:
    """Which images, from 0, are for training and which for the test.

    Raises:
        DataError: the file is missing or broken, or an image is in both.
    """
    path = data.within(folder, SPLITS)
    found, count = matlab(data, path), len(_opened(data, folder)["images"])
    parts = []
    for name in ("trainNdxs", "testNdxs"):
        numbers = _whole(data, path, found, name, count)
        if numbers.min() < 1:
            raise data.wrong(path, f"{name} goes from {numbers.min()}; the first image is 1")
        parts.append([int(number) - 1 for number in numbers])
    both = set(parts[0]) & set(parts[1])
    if both or any(len(set(part)) < len(part) for part in parts):
        raise data.wrong(path, "an image is in it twice")
    return parts[0], parts[1]


def merged(data: DataSet, folder: Path) -> NDArray[np.int8]:
    """The class of 13, or -1, by number of the name, from 0 (no name).

    Raises:
        DataError: a file is missing or broken.
    """
    path = data.within(folder, TO_40)
    to_40 = _whole(data, path, matlab(data, path), "mapClass", 40, NAMES)
    path = data.within(folder, TO_13)
    found_13 = matlab(data, path)
    values = _named(found_13, "labels13")
    if values is None:
        values = _named(found_13, None)
    to_13 = _whole(data, path, {"labels13": values}, "labels13", 13, 40)
    through = np.concatenate([[0], to_13])[np.concatenate([[0], to_40])]
    found: NDArray[np.int8] = (through - 1).astype(np.int8)
    return found


def _named(value: Any, name: str | None) -> NDArray[Any] | None:
    """The numbers of that name, wherever they are in structs; None: the first numbers there are."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return None
    for key, inner in value.items():
        if isinstance(inner, np.ndarray) and inner.size and name in (None, key):
            return inner
        if (deeper := _named(inner, name)) is not None:
            return deeper
    return None


def _whole(
    data: DataSet, path: Path, found: dict[str, Any], name: str, most: int, length: int = 0
) -> NDArray[np.int64]:
    values = found.get(name)
    if not isinstance(values, np.ndarray):
        raise data.wrong(path, f"it holds no numbers {name}")
    values = values.ravel()
    if not values.size or (length and values.size != length):
        raise data.wrong(path, f"{name} has {values.size} numbers" + f" of {length}" * bool(length))
    if values.dtype.kind not in "iuf" or (values != np.floor(values)).any():
        raise data.wrong(path, f"{name} holds something else than whole numbers")
    if values.min() < 0 or values.max() > most:
        raise data.wrong(path, f"{name} goes from {values.min()} to {values.max()}, beyond {most}")
    return values.astype(np.int64)


def _row(
    data: DataSet, folder: Path, item: int, classes: NDArray[np.int8], size: tuple[int, int]
) -> Row:
    path = data.within(folder, LABELED)
    sets = _opened(data, folder)
    try:
        # MATLAB stores columns first: [3, W, H] and [W, H].
        image, labels, depth = (
            np.asarray(sets[name][item]).T for name in ("images", "labels", "depths")
        )
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise data.wrong(path, f"image {item + 1} cannot be read ({error})") from None

    def wrong(what: str) -> Exception:
        return data.wrong(path, f"image {item + 1}: {what}")

    if image.dtype != np.uint8:
        raise wrong(f"its pixels are {image.dtype} and should be bytes")
    if labels.dtype.kind not in "iu" or (labels.size and int(labels.max()) > NAMES):
        raise wrong(f"there are labels beyond {NAMES}")
    whole = image.shape[:2]
    return {
        IMAGE: antialiased(checked(image, None, whole, wrong), size),
        "segmentation": nearest(classes[labels], size),
        "depth": nearest(checked(depth, "depth", whole, wrong), size),
    }


def _opened(data: DataSet, folder: Path) -> Any:
    """The images, labels and depths of the file, of which each image is read when it is asked for."""
    path = data.within(folder, LABELED)
    seen = path.stat()
    try:
        return _sets(path, seen.st_mtime_ns, seen.st_size)
    except (OSError, RuntimeError, KeyError, ValueError, AttributeError) as error:
        raise data.wrong(
            path, f"it cannot be read as the MATLAB file it should be ({error})"
        ) from None


# Opened once a process; another file of that name is opened anew.
@lru_cache(maxsize=4)
def _sets(path: Path, changed: int, length: int) -> Any:
    file = needs("h5py", "vision").File(path, "r")
    sets = {name: file[name] for name in ("images", "labels", "depths")}
    image, labels, depth = (sets[name].shape for name in sets)
    if len(image) != 4 or image[1] != 3 or labels != depth or (image[0], *image[2:]) != labels:
        raise ValueError(f"images {image}, labels {labels} and depths {depth} do not go together")
    return sets
