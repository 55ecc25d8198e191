"""Parallel text: two files, a sentence on each line, the translation on the same line of the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from equipoise.problems.files import DataError
from equipoise.problems.language.text import broken, first_of, lines

REMEDY = "both files need a sentence on every line, in UTF-8, and its translation on the same line"


def names(part: str, source: str, target: str) -> list[tuple[str, str]]:
    """What the two files may be called, as corpora of WMT and tools of Moses call them."""
    stems = (f"{part}.{source}-{target}", f"{part}.{target}-{source}", part)
    return [(f"{stem}.{source}", f"{stem}.{target}") for stem in stems]


def files(folder: Path, part: str, source: str, target: str) -> tuple[Path, Path]:
    """The two files of a language pair.

    Raises:
        DataError: they are not there, or only one of them is.
    """
    for pair in names(part, source, target):
        first, second = (first_of(folder, [name]) for name in pair)
        if first is not None and second is not None:
            return first, second
        # A source without this translation may belong to another pair; a translation needs its source.
        if second is not None or (first is not None and "-" in first.name):
            missing = pair[0] if first is None else pair[1]
            raise DataError(folder / missing, f"there is no such file beside {pair}", REMEDY)
    wanted = names(part, source, target)[0]
    raise DataError(
        folder / wanted[0],
        "there is no such file",
        f"put parallel text there as {wanted[0]} and {wanted[1]}, a sentence a line",
    )


def pairs(paths: tuple[Path, Path]) -> Iterator[tuple[str, str]]:
    """Sentences and their translations.

    Raises:
        DataError: a line is empty or not UTF-8, or one file has more lines than the other.
    """
    both = zip_longest(*(lines(path, REMEDY) for path in paths))
    for number, (first, second) in enumerate(both, start=1):
        for found, path, other in ((first, paths[0], paths[1]), (second, paths[1], paths[0])):
            if found is None:
                what = f"ends after line {number - 1}, and {other} goes on"
                raise DataError(path, what, REMEDY)
            if not found[1].strip():
                broken(path, number, "is empty", f"{REMEDY}; leave empty pairs out of both files")
        yield first[1], second[1]


def count(paths: tuple[Path, Path]) -> int:
    """The number of pairs, every one of them looked at."""
    return sum(1 for _ in pairs(paths))
