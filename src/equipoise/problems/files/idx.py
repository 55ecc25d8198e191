"""Files in the idx format: MNIST, Fashion-MNIST, and the labels of QMNIST."""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from equipoise.problems.files.data_set import DataSet, opened

Part = Literal["train", "t10k"]
PARTS: tuple[Part, ...] = ("train", "t10k")
# The third byte of a file: the type of its numbers, as they lie there.
TYPES: Mapping[int, str] = {0x08: "u1", 0x0C: ">i4"}
SIDE = 28
CLASSES = 10
# Rows of the official files. One with as many has to be the official one, byte for byte.
ROWS: Mapping[str, int] = {"train": 60_000, "t10k": 10_000, "test": 60_000}
# The columns of QMNIST that tasks are made of.
DIGIT, SERIES, WRITER, COLUMNS = 0, 1, 2, 8
# Census employees wrote the first two series and pupils the last: the number of a class is its place.
EMPLOYEES, STUDENTS = (0, 1), (4,)


class Pictures(NamedTuple):
    """Images ``uint8[N, 28, 28]`` and their classes ``int64[N]``."""

    images: NDArray[np.uint8]
    classes: NDArray[np.int64]


def array(data: DataSet, folder: Path, name: str, kind: str, dimensions: int) -> NDArray[Any]:
    """The array in an idx file, compressed or not.

    Args:
        data: the data set.
        folder: of it.
        name: of the file, without ``.gz``.
        kind: type of the numbers, one of the values of :data:`TYPES`.
        dimensions: how many there have to be.

    Raises:
        DataError: the file is not there, cannot be read, or is not such an array to its last byte.
    """
    path = data.within(folder, name)
    try:
        with opened(path) as file:
            # To its end, where a compressed stream has its checksum.
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise data.wrong(path, f"it cannot be read ({error})") from None
    if len(content) < 4 or content[:2] != b"\0\0":
        raise data.wrong(
            path, f"it is no idx file: it begins with {content[:4].hex() or 'nothing'}"
        )
    code, found = content[2], content[3]
    if TYPES.get(code) != kind or found != dimensions:
        raise data.wrong(
            path,
            f"it has type {code:#04x} and {found} dimensions and should have {kind} in {dimensions}",
        )
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise data.wrong(path, f"it has {len(content)} bytes: it ends within its sizes")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    wanted = start + math.prod(shape) * np.dtype(kind).itemsize
    if len(content) != wanted:
        raise data.wrong(
            path, f"it has {len(content)} bytes, and {wanted} where its sizes are {list(shape)}"
        )
    if math.prod(shape) == 0:
        raise data.wrong(path, f"it is empty: its sizes are {list(shape)}")
    _refuse_other(data, path, name, shape[0], content)
    return np.frombuffer(content, kind, offset=start).reshape(shape)


def _refuse_other(data: DataSet, path: Path, name: str, rows: int, content: bytes) -> None:
    """Refuses a file as long as the official one and different: a wrong byte is a wrong label."""
    digest = data.files.get(name)
    official = next((n for part, n in ROWS.items() if part in name), None)
    if digest is not None and rows == official:
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != digest:
            raise data.wrong(path, f"its MD5 is {found} and should be {digest}")


def pictures(data: DataSet, part: Part) -> Pictures:
    """The images of a part and their classes.

    Raises:
        DataError: a file is missing or wrong, or there are more images than classes, or less.
    """
    return _pictures(data.name, data.folder(), part)


def _names(part: str) -> tuple[str, str]:
    return f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"


@lru_cache(maxsize=4)
def _pictures(name: str, folder: Path, part: Part) -> Pictures:
    data = MNIST if name == MNIST.name else FASHION_MNIST
    images, labels = _names(part)
    pixels = array(data, folder, images, "u1", 3)
    classes = array(data, folder, labels, "u1", 1)
    if pixels.shape[1:] != (SIDE, SIDE):
        raise data.wrong(
            data.within(folder, images),
            f"its images are {list(pixels.shape[1:])} and should be {[SIDE, SIDE]}",
        )
    if len(pixels) != len(classes):
        raise data.wrong(
            data.within(folder, labels),
            f"it has {len(classes)} labels, and {images} has {len(pixels)} images",
        )
    _refuse_outside(data, data.within(folder, labels), classes, range(CLASSES), "label")
    return Pictures(pixels, classes.astype(np.int64))


def written_by(part: Part) -> NDArray[np.int64]:
    """The rows of QMNIST that belong to the images of MNIST, ``int64[N, 8]``, in their order.

    Raises:
        DataError: a file is missing or wrong, or tells other digits than MNIST does.
    """
    return _written_by(QMNIST.folder(), part, MNIST.folder())


@lru_cache(maxsize=2)
def _written_by(folder: Path, part: Part, images: Path) -> NDArray[np.int64]:
    name = _table(part)
    rows = array(QMNIST, folder, name, ">i4", 2).astype(np.int64)
    path = QMNIST.within(folder, name)
    if rows.shape[1] != COLUMNS:
        raise QMNIST.wrong(path, f"it has {rows.shape[1]} columns and should have {COLUMNS}")
    _refuse_outside(QMNIST, path, rows[:, DIGIT], range(CLASSES), "digit")
    _refuse_outside(QMNIST, path, rows[:, SERIES], (*EMPLOYEES, *STUDENTS), "series")
    _refuse_outside(QMNIST, path, rows[:, WRITER], range(10_000), "writer")
    digits = _pictures(MNIST.name, images, part).classes
    # Behind the first 10,000 rows of the test file come 50,000 that MNIST never had images of.
    if len(rows) < len(digits) or (part == "train" and len(rows) > len(digits)):
        raise QMNIST.wrong(path, f"it has {len(rows)} rows, and there are {len(digits)} images")
    rows = rows[: len(digits)]
    other = np.flatnonzero(rows[:, DIGIT] != digits)
    if len(other):
        # Which of the two is wrong cannot be told.
        labels = MNIST.within(images, _names(part)[1])
        raise QMNIST.wrong(
            path,
            f"row {other[0]} says digit {rows[other[0], DIGIT]}, and {labels} says {digits[other[0]]}",
        )
    return rows


def _table(part: str) -> str:
    return f"qmnist-{'train' if part == 'train' else 'test'}-labels-idx2-int"


def _refuse_outside(
    data: DataSet, path: Path, values: NDArray[Any], allowed: Any, what: str
) -> None:
    wrong = np.flatnonzero(~np.isin(values, np.asarray(allowed)))
    if len(wrong):
        raise data.wrong(path, f"row {wrong[0]} has the {what} {values[wrong[0]]}, which none is")


def _examined(name: str, folder: Path) -> Iterator[str]:
    # Not what is cached: a file is examined as it is now.
    for part in PARTS:
        yield from _complaint(partial(_pictures.__wrapped__, name, folder, part))


def _examined_writers(folder: Path) -> Iterator[str]:
    for part in PARTS:
        yield from _complaint(partial(_joined, folder, part))


def _joined(folder: Path, part: Part) -> None:
    _written_by.__wrapped__(folder, part, MNIST.folder(folder.parent))


def _complaint(read: Callable[[], Any]) -> Iterator[str]:
    try:
        read()
    except ValueError as error:
        yield str(error)


def _four(*digests: str) -> dict[str, str]:
    return dict(zip([name for part in PARTS for name in _names(part)], digests, strict=True))


def _also(above: str, name: str) -> Iterator[str]:
    """Paths of a file as some mirrors spell it, with a dot, and where torchvision puts it."""
    dotted = name.replace("-idx", ".idx")
    yield dotted
    for folder in ("raw", f"{above}/raw"):
        yield f"{folder}/{name}"
        yield f"{folder}/{dotted}"


MNIST = DataSet(
    name="mnist",
    page="http://yann.lecun.com/exdb/mnist/",
    licence="CC BY-SA 3.0",
    files=_four(
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    also=partial(_also, "MNIST"),
    examine=partial(_examined, "mnist"),
)
FASHION_MNIST = DataSet(
    name="fashion_mnist",
    page="https://github.com/zalandoresearch/fashion-mnist",
    licence="MIT",
    files=_four(
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
    also=partial(_also, "FashionMNIST"),
    examine=partial(_examined, "fashion_mnist"),
)
QMNIST = DataSet(
    name="qmnist",
    page="https://github.com/facebookresearch/qmnist",
    licence="BSD 3-clause",
    files={
        _table("train"): "1d43300e7f41ddcbf7fd006cbe865af9",
        _table("t10k"): "5e00709fb0090091f3afc51d204ad83c",
    },
    examine=_examined_writers,
)
