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


def counted(data: DataSet, folder: Path, part: str, parts: Sequence[str]) -> int:
    """How many images there are; answers of the same numbers are there.

    Args:
        data: whose files these are.
        folder: of the data set.
        part: ``"train"`` or ``"val"``.
        parts: names of the folders of images and answers.

    Raises:
        DataError: there is none, or numbers are missing.
    """
    found = {name: _numbers(data, folder / part / name) for name in parts}
    most = max(found, key=lambda name: len(found[name]))
    count = len(found[most])
    if not count:
        raise data.missing(folder / part / parts[0] / "0.npy")
    for name, numbers in found.items():
        gaps = set(range(count)) - numbers
        if gaps:
            raise data.missing(folder / part / name / f"{min(gaps)}.npy")
    return count


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
        DataError: there is no image, or numbers are missing.
    """
    count = counted(data, folder, part, (IMAGE, *answers))

    def decode(folder: Path, item: str) -> Row:
        return _row(data, folder / part, item, answers, size)

    return Recipe(
        key=f"{part}-{size[0]}x{size[1]}",
        items=[f"{number}.npy" for number in range(count)],
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
            first = array(data, folder / part / IMAGE / "0.npy")
            every = recipe(data, folder, part, answers, first.shape[:2])
        except DataError as error:
            yield str(error)
            continue
        yield from complaints(folder, every)
