"""Text files, compressed or not, read whole: what is cut off or flipped in a compressed one is noticed."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TypeAlias

from equipoise.problems.files.data_set import DataSet, opened

# Name, time of the last change and size of files: what is cached of them is good as long as these are.
Version: TypeAlias = tuple[tuple[str, int, int], ...]


def version(place: Path) -> Version:
    """Of a file, or of the files of a folder."""
    paths = sorted(place.iterdir()) if place.is_dir() else [place]
    states = [(path.name, path.stat()) for path in paths if path.is_file()]
    return tuple((name, state.st_mtime_ns, state.st_size) for name, state in states)


def whole(path: Path, data: DataSet) -> bytes:
    """The content of a file, uncompressed.

    Args:
        path: of the file.
        data: the data set it belongs to, for the remedy.

    Raises:
        DataError: it cannot be read, is damaged or is empty.
    """
    try:
        with opened(path) as file:
            found = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise data.wrong(path, f"it cannot be read ({error})") from None
    if not found.strip():
        raise data.wrong(path, "it is empty")
    return found


def text(path: Path, data: DataSet) -> str:
    """The content of a text file.

    Raises:
        DataError: it cannot be read, is damaged, is empty or is no text.
    """
    try:
        return whole(path, data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise data.wrong(path, f"byte {error.start} is no text in UTF-8") from None
