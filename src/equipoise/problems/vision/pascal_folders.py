"""PASCAL-Context in the folders of ASTMT, which its authors call PASCAL_MT."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.problems.files import DataError, DataSet, Recipe
from equipoise.problems.vision.dense_tasks import Answer
from equipoise.problems.vision.pictures import IMAGE, Row, antialiased, layout, nearest
from equipoise.problems.vision.pixels import matlab, picture

FILES = (
    "ImageSets/Context/train.txt",
    "ImageSets/Context/val.txt",
    "JPEGImages/*.jpg",
    "semseg/VOC12/*.png",
    "semseg/pascal-context/*.png",
    "human_parts/*.mat",
    "pascal-context/trainval/*.mat",
    "normals_distill/*.png",
    "sal_distill/*.png",
)
VOID = 255
PERSON = 15
PARTS = {
    **dict.fromkeys(
        ("hair", "head", "lear", "lebrow", "leye", "mouth", "nose", "rear", "rebrow", "reye"), 1
    ),
    **dict.fromkeys(("neck", "torso"), 2),
    **dict.fromkeys(("luarm", "ruarm"), 3),
    **dict.fromkeys(("lhand", "llarm", "rhand", "rlarm"), 4),
    **dict.fromkeys(("luleg", "ruleg"), 5),
    **dict.fromkeys(("lfoot", "llleg", "rfoot", "rlleg"), 6),
}
LAST_LABEL = 459
# Below this length the stored bytes do not tell a direction.
SHORTEST = np.float32(0.5)
TINY = np.float32(1e-6)
# The normals come from a network that was trained on NYUv2. They count where the label of PASCAL-Context is
# one of these: names that NYUv2 has too, and "tvmonitor".
INDOORS = (
    "3 4 6 9 10 11 13 15 17 18 22 23 29 30 33 34 36 37 38 39 41 43 46 49 50 51 53 55 56 59 61 62 "
    "65 66 68 69 72 73 78 83 84 85 87 88 95 96 101 104 105 107 111 113 115 122 124 135 141 142 "
    "143 146 150 154 157 158 159 165 172 174 181 183 184 191 193 195 197 199 202 213 215 216 219 "
    "220 223 225 228 230 232 233 238 239 242 243 246 250 251 252 255 260 261 263 269 272 273 275 "
    "281 283 284 285 286 287 288 290 291 292 293 295 304 307 309 310 314 315 319 323 329 330 331 "
    "336 342 345 349 350 351 352 355 357 368 370 371 374 379 380 383 384 397 401 403 405 407 408 "
    "411 412 413 414 417 419 421 423 427 429 430 432 440 441 442 443 444 446 454 457 "
)


def recipe(
    data: DataSet,
    folder: Path,
    part: str,
    answers: Sequence[Answer],
    size: tuple[int, int],
    wanted: Sequence[str] | None = None,
) -> Recipe:
    """How images and their answers are read.

    Args:
        data: whose files these are.
        folder: of the data set.
        part: ``"train"`` or ``"val"``.
        answers: all five.
        size: height and width that images are made to fit into.
        wanted: names of those answers whose files are read where nothing is prepared; None for all.

    Raises:
        DataError: the list of images is missing, empty or broken.
    """

    def decode(folder: Path, item: str) -> Row:
        return _row(data, folder, item, size, names, listed)

    names = [answer.name for answer in answers] if wanted is None else list(wanted)
    listed = data.within(folder, f"ImageSets/Context/{part}.txt")
    return Recipe(
        key=f"{part}-{size[0]}x{size[1]}",
        items=_names(data, folder, part),
        layout=layout(answers, size),
        decode=decode,
    )


def _names(data: DataSet, folder: Path, part: str) -> list[str]:
    path = data.within(folder, f"ImageSets/Context/{part}.txt")
    try:
        names = path.read_text(encoding="ascii").split()
    except (OSError, ValueError) as error:
        raise data.wrong(path, f"it cannot be read ({error})") from None
    if not names:
        raise data.wrong(path, "it names no image")
    if len(set(names)) < len(names):
        raise data.wrong(path, "it names an image twice")
    for name in names:
        if not re.fullmatch(r"\d{4}_\d{6}", name):
            raise data.wrong(path, f"{name!r} is no name of an image")
    return names


def _row(
    data: DataSet,
    folder: Path,
    item: str,
    size: tuple[int, int],
    wanted: Sequence[str],
    listed: Path,
) -> Row:
    path = folder / "JPEGImages" / f"{item}.jpg"
    if not path.is_file():
        raise data.wrong(path, f"there is no such image, and {listed} names it")
    image = picture(data, path, ["RGB"])
    whole: tuple[int, int] = image.shape[:2]
    scale = min(size[0] / whole[0], size[1] / whole[1])
    fit = tuple(
        max(1, min(most, round(scale * old))) for most, old in zip(size, whole, strict=True)
    )
    inner = (fit[0], fit[1])
    found: dict[str, Any] = {IMAGE: antialiased(image, inner)}
    if "segmentation" in wanted:
        found["segmentation"] = nearest(_classes(data, folder, item, whole), inner)
    if "human_parts" in wanted:
        found["human_parts"] = nearest(_parts(data, folder, item, whole), inner)
    if "saliency" in wanted:
        found["saliency"] = nearest(_saliency(data, folder, item), inner)
    if {"normals", "edges"} & set(wanted):
        labels = nearest(_labels(data, folder, item, whole), inner)
        found["edges"] = edges(labels)
        if "normals" in wanted:
            indoors = np.zeros(LAST_LABEL + 1, bool)
            indoors[[int(number) for number in INDOORS.split()]] = True
            normals = nearest(_normals(data, folder, item), inner)
            found["normals"] = np.where(indoors[labels][..., None], normals, np.float32(0))
    none = {"segmentation": -1, "human_parts": -1, "saliency": -1, "edges": -1}
    return {name: _padded(array, size, none.get(name, 0)) for name, array in found.items()}


def edges(labels: NDArray[Any]) -> NDArray[np.int8]:
    """1 where the label on the right or below is another one, else 0."""
    found = np.zeros(labels.shape, np.int8)
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    found[:-1] |= labels[:-1] != labels[1:]
    return found


def _padded(values: NDArray[Any], size: tuple[int, int], none: int) -> NDArray[Any]:
    found = np.full((*size, *values.shape[2:]), none, values.dtype)
    found[: values.shape[0], : values.shape[1]] = values
    return found


def _classes(data: DataSet, folder: Path, item: str, whole: tuple[int, int]) -> NDArray[np.int8]:
    """Those of VOC where its labels are there, and else those made from PASCAL-Context."""
    path = folder / "semseg" / "VOC12" / f"{item}.png"
    if not path.is_file():
        path = folder / "semseg" / "pascal-context" / f"{item}.png"
    values = picture(data, path, ["L", "P"])
    _sized(values, whole, partial(data.wrong, path))
    known = values[values != VOID]
    if known.size and known.max() > 20:
        raise data.wrong(path, f"there is a class {known.max()} beyond 20")
    return np.where(values == VOID, -1, values.astype(np.int16)).astype(np.int8)


def _labels(data: DataSet, folder: Path, item: str, whole: tuple[int, int]) -> NDArray[np.int64]:
    path = folder / "pascal-context" / "trainval" / f"{item}.mat"
    values = np.asarray(matlab(data, path).get("LabelMap"))
    wrong = partial(data.wrong, path)
    _sized(values, whole, wrong)
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > LAST_LABEL:
        raise wrong(f"its LabelMap holds something else than numbers up to {LAST_LABEL}")
    return values.astype(np.int64)


def _parts(data: DataSet, folder: Path, item: str, whole: tuple[int, int]) -> NDArray[np.int8]:
    """The part of a person, 0 elsewhere; -1 everywhere where no part of a person is told."""
    path = folder / "human_parts" / f"{item}.mat"
    wrong = partial(data.wrong, path)
    found = np.zeros(whole, np.int8)
    try:
        (anno,) = matlab(data, path)["anno"]
        people = [each for each in anno["objects"] if int(each["class_ind"].item()) == PERSON]
        # Without parts there is an empty array in place of a struct.
        parts = [
            part for each in people for part in each["parts"] if isinstance(each["parts"], list)
        ]
        named = [(str(part["part_name"]), np.asarray(part["mask"])) for part in parts]
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise wrong(f"it does not hold the objects of an image ({error})") from None
    for name, mask in named:
        _sized(mask, whole, wrong)
        if name not in PARTS:
            raise wrong(f"there is a part {name!r} that people do not have")
        if mask.dtype.kind not in "iuf" or not np.isin(mask, (0, 1)).all():
            raise wrong(f"the mask of a part {name!r} holds something else than 0 and 1")
        found[mask.astype(bool)] = PARTS[name]
    return found if found.any() else np.full(whole, -1, np.int8)


def _saliency(data: DataSet, folder: Path, item: str) -> NDArray[np.int8]:
    values = picture(data, folder / "sal_distill" / f"{item}.png", ["L"])
    return (values > 127).astype(np.int8)


def _normals(data: DataSet, folder: Path, item: str) -> NDArray[np.float32]:
    values = picture(data, folder / "normals_distill" / f"{item}.png", ["RGB"])
    normals = values.astype(np.float32) * np.float32(2 / 255) - 1
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    found: NDArray[np.float32] = np.where(length < SHORTEST, 0, normals / (length + TINY))
    return found


def _sized(values: NDArray[Any], whole: tuple[int, int], wrong: Any) -> None:
    if values.shape != whole:
        raise wrong(f"it has the shape {list(values.shape)} and its image {list(whole)}")
