"""Lines of text files, with the number of each, and what is wrong with them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from equipoise.problems.files import DataError, DataSet, opened


def lines(path: Path, remedy: str) -> Iterator[tuple[int, str]]:
    """The lines of a file in UTF-8, counted from 1, without their ends.

    Args:
        path: of the file, compressed where its name ends in ``.gz``.
        remedy: what to do where it cannot be read.

    Raises:
        DataError: it cannot be read, holds nothing, or a line is not UTF-8.
    """
    number = 0
    try:
        with opened(path) as file:
            # A line ends where a line feed is: tokens may hold what else Unicode calls the end of a line.
            for number, raw in enumerate(file, start=1):
                # What programs for Windows put before the first line is no part of it.
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        broken(path, number, f"is not UTF-8 ({error.reason})", remedy)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(path, f"it cannot be read ({error})", remedy) from None
    if number == 0:
        raise DataError(path, "it is empty", remedy)


def broken(path: Path, number: int, what: str, remedy: str) -> NoReturn:
    """Refuses a line.

    Raises:
        DataError: always; it names the file and the line.
    """
    raise DataError(path, f"line {number} {what}", remedy)


def first_of(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of some files that is below a folder, compressed or not; None where there is none."""
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None


def one_of(data: DataSet, names: Sequence[str]) -> Path:
    """The first of some files of a data set that is there.

    Raises:
        DataError: none is; it names all of them.
    """
    found = first_of(data.folder(), names)
    if found is not None:
        return found
    try:
        return data.file(names[0])
    except DataError as error:
        what = f"{error.what}, and none of {', '.join(names[1:])}"
        raise DataError(error.file, what, error.remedy) from None


def spread(count: int, rows: int | None) -> list[int]:
    """Which of ``count`` rows are taken where ``rows`` are asked for: from beginning to end, evenly."""
    if rows is None or rows >= count:
        return list(range(count))
    return [int(row) for row in np.linspace(0, count - 1, rows).round()]


def bucket(text: str, buckets: int) -> int:
    """The bucket of a piece of text, from 1; 0 is for padding."""
    return 1 + zlib.crc32(text.encode("utf-8")) % (buckets - 1)


def complaint(read: Callable[[Path], object], path: Path) -> str:
    """What is wrong with a file, as far as reading it tells; empty where nothing is."""
    try:
        read(path)
    except DataError as error:
        return str(error)
    return ""


class Stamp(NamedTuple):
    """A file as it is now: what was read from it is good as long as this is the same."""

    path: Path
    size: int
    changed: int


def stamp(path: Path) -> Stamp:
    """That of a file."""
    told = path.stat()
    return Stamp(path, told.st_size, told.st_mtime_ns)
