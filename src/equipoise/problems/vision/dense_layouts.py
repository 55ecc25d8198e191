"""Which of the layouts of a data set is there, and how large its images are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from equipoise.problems.files import DataError, DataSet
from equipoise.problems.vision.dense_tasks import Answer


def sides(size: Sequence[int] | None) -> tuple[int, int] | None:
    """Height and width as they were given; None where they were not.

    Raises:
        ValueError: there are not two of them.
    """
    if size is None:
        return None
    if len(size) != 2:
        raise ValueError(f"size is {list(size)}; give height and width, such as [288, 384]")
    return int(size[0]), int(size[1])


def recognised(data: DataSet, folder: Path, layouts: Mapping[str, str]) -> str:
    """The name of the first layout that is there.

    Args:
        data: whose files these are.
        folder: of the data set.
        layouts: by name, a file of it, or a pattern of files.

    Raises:
        DataError: none is.
    """
    for name, pattern in layouts.items():
        if next(folder.glob(pattern), None) is not None:
            return name
    every = ", ".join(f"{pattern} (layout {name!r})" for name, pattern in layouts.items())
    raise DataError(
        folder,
        f"none of its layouts is there: {every}",
        f"get the data from {data.page} ({data.licence}) and put the files of one layout there",
    )


def expected(data: DataSet, layouts: Mapping[str, str]) -> str:
    """The layout that is there; the first one where there is no folder, so that networks can be built."""
    try:
        return recognised(data, data.folder(), layouts)
    except DataError:
        return next(iter(layouts))


def of_tasks(answers: Sequence[Answer], tasks: Sequence[str] | None) -> tuple[Answer, ...]:
    """The answers of some tasks; None for all."""
    return tuple(each for each in answers if tasks is None or each.name in tasks)


def when_built(
    data: DataSet, sides: Callable[[Path], tuple[int, int]], otherwise: tuple[int, int]
) -> Callable[[], tuple[int, int]]:
    """Height and width of the images of a folder when a network is built.

    Args:
        data: the data set.
        sides: of the images of its folder.
        otherwise: what is said where there is no folder.
    """

    def found() -> tuple[int, int]:
        try:
            folder = data.folder()
        except DataError:
            return otherwise
        return sides(folder)

    return found
