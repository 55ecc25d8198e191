"""The rows of PAWS-X: two sentences, and whether they say the same."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from equipoise.problems.files import DataError
from equipoise.problems.language.text import broken, lines

PAGE = "https://github.com/google-research-datasets/paws/tree/master/pawsx"
COLUMNS = ("id", "sentence1", "sentence2", "label")
# Stands for a sentence that could not be translated.
UNTRANSLATED = "NS"


class Row(NamedTuple):
    """Two sentences, and 1 where they say the same."""

    id: int
    first: str
    second: str
    label: int


def pairs(path: Path) -> list[Row]:
    """The rows of a file with a header, without those that were not translated.

    Raises:
        DataError: a column is missing, a label is neither 0 nor 1, an id is there twice, or no row is left.
    """
    remedy = f"fetch it anew from {PAGE}"
    found: list[Row] = []
    seen: set[int] = set()
    for number, line in lines(path, remedy):
        columns = line.split("\t")
        if number == 1:
            if tuple(columns[:3]) != COLUMNS[:3] or columns[3:] not in (["label"], ["noisy_label"]):
                what = f"has the columns {', '.join(columns)} and should have {', '.join(COLUMNS)}"
                broken(path, 1, what, remedy)
            continue
        if len(columns) != len(COLUMNS):
            broken(path, number, f"has {len(columns)} columns and should have 4", remedy)
        name, first, second, label = columns
        if not (name.isascii() and name.isdecimal()):
            broken(path, number, f"has {name!r} where its id should be, a whole number", remedy)
        if label not in ("0", "1"):
            broken(path, number, f"has the label {label!r}, which is neither 0 nor 1", remedy)
        if not first.strip() or not second.strip():
            broken(path, number, "has an empty sentence", remedy)
        if int(name) in seen:
            broken(path, number, f"has the id {name}, which is there already", remedy)
        seen.add(int(name))
        if UNTRANSLATED not in (first.strip(), second.strip()):
            found.append(Row(int(name), first, second, int(label)))
    if not found:
        raise DataError(path, "there is no pair of sentences in it", remedy)
    return found
