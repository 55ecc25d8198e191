"""Folders of numbered ``.npy`` files, as the authors of MTAN hand out NYUv2 and Cityscapes.

``{train,val}/{image,...}/N.npy``: an array for every image, from N = 0, and one of the same number for every
answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from equipoise.problems.files import DataError, DataSet, Recipe
from equipoise.problems.vision.dense_tasks import Answer
from equipoise.problems.vision.pictures import IMAGE, Row, complaints, layout
from equipoise.problems.vision.pixels import array, checked


def numbered(data: DataSet, folder: Path, part: str, parts: Sequence[str]) -> list[int]:
    """The numbers of the images, in order; every answer has the same ones.

    Args:
        data: whose files these are.
        folder: of the data set.
        part: ``"train"`` or ``"val"``.
        parts: names of the folders of images and answers.

    Raises:
        DataError: there is none, or one of the folders lacks a number that another has.
    """
    found = {name: _numbers(data, folder / part / name) for name in parts}
    every = set().union(*found.values())
    if not every:
        raise data.missing(folder / part / parts[0] / "0.npy")
    for name, numbers in found.items():
        if gaps := every - numbers:
            raise data.missing(folder / part / name / f"{min(gaps)}.npy")
    return sorted(every)


def shape(data: DataSet, folder: Path, part: str = "train") -> tuple[int, int]:
    """Height and width of the first image of a part.

    Raises:
        DataError: there is none, or it is no image.
    """
    numbers = _numbers(data, folder / part / IMAGE)
    path = folder / part / IMAGE / f"{min(numbers, default=0)}.npy"
    found = array(data, path).shape
    if len(found) != 3 or found[2] != 3:
        raise data.wrong(path, f"it has the shape {list(found)} and should have [H, W, 3]")
    return found[0], found[1]


def _numbers(data: DataSet, folder: Path) -> set[int]:
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        raise data.missing(folder / "0.npy") from None
    return {int(name[:-4]) for name in names if re.fullmatch(r"(0|[1-9]\d*)\.npy", name)}


def recipe(
    data: DataSet,
    folder: Path,
    part: str,
    answers: Mapping[str, Answer],
    size: tuple[int, int],
) -> Recipe:
    """How rows of a part are read.

    Args:
        data: whose files these are.
        folder: of the data set.
        part: ``"train"`` or ``"val"``.
        answers: by the folder they lie in.
        size: height and width of the arrays.

    Raises:
        DataError: there is no image, numbers are missing, or the images are not of this size.
    """
    numbers = numbered(data, folder, part, (IMAGE, *answers))
    first = shape(data, folder, part)
    if first != size:
        raise DataError(
            folder / part / IMAGE / f"{numbers[0]}.npy",
            f"this image has {list(first)} pixels, and the size is {list(size)}",
            f"give size={list(first)}, or no size where the images of train and val have the same",
        )

    def decode(folder: Path, item: str) -> Row:
        return _row(data, folder / part, item, answers, size)

    return Recipe(
        key=f"{part}-{size[0]}x{size[1]}",
        items=[f"{number}.npy" for number in numbers],
        layout=layout(list(answers.values()), size),
        decode=decode,
    )


def _row(
    data: DataSet, folder: Path, item: str, answers: Mapping[str, Answer], size: tuple[int, int]
) -> Row:
    found: dict[str, Any] = {}
    for part, answer in ((IMAGE, None), *answers.items()):
        path = folder / part / item
        kind = None if answer is None else answer.kind
        count = 0 if answer is None else answer.channels
        wrong = partial(data.wrong, path)
        name = IMAGE if answer is None else answer.name
        found[name] = checked(array(data, path), kind, size, wrong, count)
    return found


def examined(data: DataSet, folder: Path, answers: Mapping[str, Answer]) -> Iterator[str]:
    """What is wrong with the files of all parts, a sentence each; they may have any one size."""
    for part in ("train", "val"):
        try:
            every = recipe(data, folder, part, answers, shape(data, folder))
        except DataError as error:
            yield str(error)
            continue
        yield from _gaps(folder / part / IMAGE, every.items)
        yield from complaints(folder, every)


def _gaps(folder: Path, items: Sequence[str]) -> Iterator[str]:
    wanted = (f"{number}.npy" for number in range(len(items)))
    if gone := next((each for each in wanted if each not in items), None):
        yield f"{folder / gone}: this image is not there, and {len(items)} others are"
