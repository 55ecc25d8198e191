"""The rows of PAWS-X: two sentences, whether they say the same, and which pairs belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from equipoise.problems.files import DataError
from equipoise.problems.language.text import broken, lines

PAGE = "https://github.com/google-research-datasets/paws/tree/master/pawsx"
COLUMNS = ("id", "sentence1", "sentence2", "label")
# Where there is no training file: so many ids of the dev files are the validation split.
HELD_OUT = 200
# One seed for this division, not the seed of a trial: every trial sees the same data.
SEED = 2019
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


def together(found: Mapping[str, Sequence[Row]]) -> list[list[int]]:
    """Groups of ids: two ids are in one where, in any language, they have a sentence in common.

    An id is the same pair in every language. Sentences are compared as :meth:`str.casefold` has them, without
    the spaces around them.

    Args:
        found: rows by language.
    """
    above: dict[int, int] = {}

    def top(number: int) -> int:
        while above.setdefault(number, number) != number:
            above[number] = above[above[number]]
            number = above[number]
        return number

    # Of each sentence, an id that has it.
    first: dict[str, int] = {}
    for rows in found.values():
        for row in rows:
            for sentence in (row.first, row.second):
                other = top(first.setdefault(sentence.strip().casefold(), row.id))
                above[top(row.id)] = other
    groups: dict[int, list[int]] = {}
    for number in sorted(above):
        groups.setdefault(top(number), []).append(number)
    return list(groups.values())


def held_out(found: Mapping[str, Sequence[Row]]) -> set[int]:
    """The ids that are for validation where dev files are divided.

    Whole groups of :func:`together`, as they come at random, as long
    as there are no more than 200 ids in them, or a quarter of all: no sentence is in both splits, in whatever
    language.

    Args:
        found: rows of dev files, by language.
    """
    groups = together(found)
    most = min(HELD_OUT, max(sum(map(len, groups)) // 4, 1))
    held: set[int] = set()
    for place in np.random.default_rng(SEED).permutation(len(groups)):
        if len(held) + len(groups[place]) <= most:
            held.update(groups[place])
    return held
