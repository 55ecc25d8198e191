"""The two lists of CelebA: the attributes of every image, and the part of the data it belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from equipoise.problems.base import SplitName
from equipoise.problems.files import DataError, DataSet, opened

NAMES = """
5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair
Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup
High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose
Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat
Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young
"""
ATTRIBUTES = tuple(NAMES.split())
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
# The publisher's folders, or all files beside the images.
LABELS = ("Anno/list_attr_celeba.txt", "list_attr_celeba.txt")
PARTS = ("Eval/list_eval_partition.txt", "list_eval_partition.txt")


@dataclass(frozen=True, eq=False)
class Lists:
    """What the lists say.

    Attributes:
        names: of the images, in order.
        labels: ``bool[N, 40]``, in the order of :data:`ATTRIBUTES`.
        part: number of the split in :data:`SPLITS`, ``uint8[N]``.
    """

    names: tuple[str, ...]
    labels: NDArray[np.bool_]
    part: NDArray[np.uint8]


def lists_of(data: DataSet, folder: Path) -> Lists:
    """The lists of a folder; read once in a process unless they change.

    Raises:
        DataError: one is missing or wrong.
    """
    return _read(*(_stamped(_either(data, folder, names)) for names in (LABELS, PARTS)))


def out_of_order(data: DataSet, folder: Path) -> Iterator[str]:
    """Where the parts do not follow each other, as those of the publisher do, in a sentence."""
    lists = lists_of(data, folder)
    back = np.flatnonzero(np.diff(lists.part.astype(np.int8)) < 0)
    if len(back):
        row = int(back[0]) + 1
        yield (
            f"{_either(data, folder, PARTS)}: line {row + 1}: {lists.names[row]} is in part "
            f"{lists.part[row]} and the one before in {lists.part[row - 1]}; the publisher's go 0, 1, 2"
        )


def _either(data: DataSet, folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return data.within(folder, names[0])


def _stamped(path: Path) -> tuple[Path, int, int]:
    stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=2)
def _read(labels: tuple[Path, int, int], parts: tuple[Path, int, int]) -> Lists:
    names, found = _labels(labels[0])
    return Lists(names, found, _parts(parts[0], names, labels[0]))


def _lines(path: Path) -> list[bytes]:
    """Of a file, without blank ones at its end."""
    try:
        with opened(path) as file:
            content = file.read()
    except (OSError, EOFError) as error:
        raise _wrong(path, f"it cannot be read ({error})") from None
    return content.rstrip().splitlines()


def _wrong(path: Path, what: str) -> DataError:
    return DataError(path, what, "fetch it anew, as its publisher hands it out")


def _labels(path: Path) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    lines = _lines(path)
    if len(lines) < 3:
        raise _wrong(path, f"it has {len(lines)} lines: a count, the attributes, then the images")
    count, header, *rows = lines
    if not count.strip().isdigit() or int(count) != len(rows):
        told = count.decode(errors="replace").strip()
        raise _wrong(path, f"its first line says {told!r} images and {len(rows):,} lines follow")
    heads = header.decode(errors="replace").split()
    if heads != list(ATTRIBUTES):
        odd = next((a for a in heads if a not in ATTRIBUTES), f"{len(heads)} names")
        raise _wrong(path, f"its second line does not name the 40 attributes in order ({odd!r})")
    names, flat = [], []
    for number, line in enumerate(rows, 3):
        name, _, values = line.partition(b" ")
        # Of the 40 numbers only their signs are kept: a letter each, which is quick for 200,000 lines.
        signs = values.replace(b"-1", b"n").replace(b" ", b"")
        if len(signs) != len(ATTRIBUTES) or signs.strip(b"1n"):
            raise _wrong(path, f"line {number}: {_unlike(name, values)}")
        names.append(_named(path, number, name))
        flat.append(signs)
    _refuse_twice(path, names)
    signs_of_all = np.frombuffer(b"".join(flat), np.uint8).reshape(len(rows), -1)
    return tuple(names), signs_of_all == ord("1")


def _unlike(name: bytes, values: bytes) -> str:
    each = values.split()
    image = name.decode(errors="replace")
    for attribute, value in zip(ATTRIBUTES, each, strict=False):
        if value not in (b"1", b"-1"):
            return f"{attribute} of {image} is {value.decode(errors='replace')!r}, not 1 or -1"
    return f"{image} has {len(each)} numbers and should have {len(ATTRIBUTES)}"


def _named(path: Path, number: int, name: bytes) -> str:
    text = name.decode(errors="replace")
    if not text.endswith(".jpg") or {"/", "\\"} & set(text) or not text.isprintable():
        raise _wrong(path, f"line {number}: {text!r} is no name of an image")
    return text


def _refuse_twice(path: Path, names: list[str]) -> None:
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise _wrong(path, f"it has {twice} twice")


def _parts(path: Path, names: tuple[str, ...], labels: Path) -> NDArray[np.uint8]:
    found = np.empty(len(names), np.uint8)
    lines = _lines(path)
    if len(lines) != len(names):
        raise _wrong(path, f"it has {len(lines):,} images and {labels.name} has {len(names):,}")
    for row, (line, name) in enumerate(zip(lines, names, strict=True)):
        image, _, part = (each.decode(errors="replace").strip() for each in line.partition(b" "))
        if image != name:
            raise _wrong(
                path, f"line {row + 1} is of {image!r} and that of {labels.name} of {name!r}"
            )
        if part not in ("0", "1", "2"):
            raise _wrong(path, f"line {row + 1}: {image} is in part {part!r}, not 0, 1 or 2")
        found[row] = int(part)
    for number, split in enumerate(SPLITS):
        if not (found == number).any():
            raise _wrong(path, f"no image is in part {number}, which is for {split}")
    return found
