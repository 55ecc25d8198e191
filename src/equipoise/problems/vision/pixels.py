"""Files of pixels, read and checked: arrays of NumPy, pictures, and MATLAB files."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from equipoise.problems.files import DataSet, needs
from equipoise.problems.vision.dense_tasks import Kind
from equipoise.problems.vision.matlab_files import variables

# As every version of NumPy writes it, in keys that are sorted.
HEADER = re.compile(
    r"\{'descr': '(?P<type>[<>|=](b1|[iu][1248]|f[248]))', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>[0-9, ]*)\),? *\}\s*"
)
LONGEST_HEADER = 10_000
# How every PNG file begins.
PNG = b"\x89PNG\r\n\x1a\n"
# Normals are stored with rounding, and pictures resized with a kernel that overshoots.
LONGEST = 1.05
OVERSHOOT = 0.1
# Metres, or one over metres: nothing in these data is near it.
FARTHEST = 1e6
# What resizing or another type makes of a depth of zero.
ROUNDING = 1e-6


def array(data: DataSet, path: Path) -> NDArray[Any]:
    """What a ``.npy`` file holds; nothing but numbers is read, and no pickled object.

    The header is read here: NumPy's own reader parses it as Python, which Python 3.11 cannot do in several
    threads at a time.

    Raises:
        DataError: it is not there, cannot be read, or holds no numbers.
    """
    if not path.is_file():
        raise data.missing(path)
    try:
        with path.open("rb") as file:
            dtype, order, shape = _header(file)
            values = np.fromfile(file, dtype)
    except (OSError, ValueError) as error:
        raise data.wrong(path, f"it cannot be read as an array of numbers ({error})") from None
    if values.size != math.prod(shape) or _odd(path, dtype):
        raise data.wrong(path, f"its length is not that of {dtype}{list(shape)}")
    return values.reshape(shape, order=order)


def _header(file: BinaryIO) -> tuple[np.dtype[Any], Literal["C", "F"], tuple[int, ...]]:
    """Type, order and shape of the numbers that follow."""
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:] not in (b"\1\0", b"\2\0"):
        raise ValueError("it does not begin as one")
    length = int.from_bytes(file.read(2 if magic[6] == 1 else 4), "little")
    found = HEADER.fullmatch(file.read(min(length, LONGEST_HEADER)).decode("latin1"))
    if found is None:
        raise ValueError("its header does not tell the shape of an array of numbers")
    shape = tuple(int(number) for number in found["shape"].split(",") if number.strip())
    return np.dtype(found["type"]), "F" if found["fortran"] == "True" else "C", shape


def _odd(path: Path, dtype: np.dtype[Any]) -> bool:
    """Whether bytes are left over behind the last whole number; headers end at a multiple of 16."""
    return path.stat().st_size % min(dtype.itemsize, 16) != 0


def picture(data: DataSet, path: Path, modes: Sequence[str]) -> NDArray[Any]:
    """The pixels of a PNG or JPEG file.

    Args:
        data: whose file it is.
        path: of the file.
        modes: as Pillow calls them; the first is what others are converted to, unless they are listed.

    Raises:
        DataError: it is not there, or cannot be read to its end.
        ImportError: Pillow is not installed.
    """
    if not path.is_file():
        raise data.missing(path)
    pillow: Any = needs("PIL.Image", "vision")
    try:
        content = path.read_bytes()
        _refuse_damaged(content)
        with pillow.open(BytesIO(content)) as found:
            found.load()
            wanted = found if found.mode in modes else found.convert(modes[0])
            return np.array(wanted)
    # Pillow lets through whatever a broken header leads it to, such as SyntaxError or struct.error.
    except Exception as error:  # noqa: BLE001
        raise data.wrong(path, f"it cannot be read as a picture ({error})") from None


def _refuse_damaged(content: bytes) -> None:
    """Compares the sums of the pieces of a PNG file, which Pillow does not do for those of pixels."""
    if not content.startswith(PNG):
        return
    start = len(PNG)
    while start < len(content):
        end = start + 8 + int.from_bytes(content[start : start + 4], "big")
        if zlib.crc32(content[start + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            raise ValueError(f"the sum of the piece from byte {start} on is wrong")
        if content[start + 4 : start + 8] == b"IEND":
            return
        start = end + 4
    raise ValueError("it has no end")


def matlab(data: DataSet, path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file of version 5 to 7, see :mod:`~equipoise.problems.vision.matlab_files`.

    Raises:
        DataError: it is not there, or cannot be read.
    """
    if not path.is_file():
        raise data.missing(path)
    try:
        return variables(path.read_bytes())
    except (OSError, ValueError) as error:
        raise data.wrong(path, f"it cannot be read as a MATLAB file ({error})") from None


def plain(values: NDArray[Any]) -> NDArray[Any]:
    """Without a last dimension of one."""
    return values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values


def checked(
    values: NDArray[Any],
    kind: Kind | None,
    size: Sequence[int],
    wrong: Callable[[str], Exception],
    count: int = 0,
) -> NDArray[Any]:
    """An image or its answers as rows have them.

    Args:
        values: what the file holds.
        kind: None: of an image.
        size: height and width that it should have.
        wrong: makes the error that names the file.
        count: of classes.

    Raises:
        Exception: that of ``wrong``: shape, range, or a number that is not finite.
    """
    three = kind is None or kind == "normals"
    values = values if three else plain(values)
    wanted = (*size, 3) if three else tuple(size)
    if values.shape != wanted:
        raise wrong(f"it has the shape {list(values.shape)} and should have {list(wanted)}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise wrong("it holds numbers that are not finite")
    if kind is None:
        if values.dtype == np.uint8:
            return values
        return _within(values, -OVERSHOOT, 1 + OVERSHOOT, wrong, "pixels").astype(np.float32)
    if kind in ("classes", "binary"):
        last = 1 if kind == "binary" else count - 1
        if values.dtype.kind == "f" and (values != np.floor(values)).any():
            raise wrong("its classes are no whole numbers")
        return _within(values, -1, last, wrong, "classes").astype(np.int8)
    if kind == "normals":
        if values.size and float(np.square(values, dtype=np.float64).sum(-1).max()) > LONGEST**2:
            raise wrong("there are normals longer than one")
        return values.astype(np.float32)
    found: NDArray[Any] = _within(values, -ROUNDING, FARTHEST, wrong, "depths").astype(np.float32)
    return found.clip(min=0)


def _within(
    values: NDArray[Any], low: float, high: float, wrong: Callable[[str], Exception], what: str
) -> NDArray[Any]:
    if values.size:
        # As Python's floats: the bounds may be beyond the type of the array.
        least, most = float(values.min()), float(values.max())
        if least < low or most > high:
            raise wrong(
                f"its {what} go from {least:g} to {most:g} and should be between {low:g} and {high:g}"
            )
    return values
