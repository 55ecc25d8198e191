"""MATLAB files of version 5 to 7, read with every length checked.

SciPy's reader trusts what a file says of itself, and a damaged one ends the process. This one knows numbers,
text, cells and structs, and raises ValueError for whatever else there is.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADER = 128
# Types of data elements, and classes of arrays, as the format numbers them.
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXTS = {1: "latin1", 2: "latin1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
MATRIX, COMPRESSED = 14, 15
CELL, STRUCT, CHAR = 1, 2, 4
NUMBERS = {
    6: "f8",
    7: "f4",
    8: "i1",
    9: "u1",
    10: "i2",
    11: "u2",
    12: "i4",
    13: "u4",
    14: "i8",
    15: "u8",
}
COMPLEX = 0x0800
# No variable of the data sets is near it; a damaged length would else ask for all memory.
LARGEST = 1 << 28
DEEPEST = 20


def variables(content: bytes) -> dict[str, Any]:
    """The variables of a file by name.

    Returns:
        Numbers as arrays of their shape, text as str, cells as lists, and structs as lists of mappings from
        field to value; lists go down the columns.

    Raises:
        ValueError: it is no such file, is damaged, or holds something else.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[HEADER - 2 : HEADER])
    if order is None:
        raise ValueError("it does not begin as a MATLAB file of version 5 to 7")
    found, rest = {}, _Part(content[HEADER:], order)
    while rest.left:
        kind, data = rest.element()
        if kind == COMPRESSED:
            kind, data = _Part(_inflated(data), order).element()
        if kind != MATRIX:
            raise ValueError(f"there is an element of type {kind} where a variable should be")
        name, value = _variable(_Part(data, order), 0)
        found[name] = value
    return found


def _inflated(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, LARGEST)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not stream.eof:
        raise ValueError("a compressed variable has no end")
    return found


class _Part:
    """Bytes that are read from the front, an element at a time."""

    def __init__(self, data: bytes, order: str) -> None:
        self.data = data
        self.order = order
        self.at = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def element(self) -> tuple[int, bytes]:
        """Type and bytes of the next one."""
        if self.left < 8:
            raise ValueError("it ends within an element")
        first, length = (int(n) for n in np.frombuffer(self.data, self.order + "u4", 2, self.at))
        start = self.at + 8
        if first >> 16:  # up to four bytes lie in the tag itself
            first, length, start = first & 0xFFFF, first >> 16, self.at + 4
            if length > 4:
                raise ValueError(f"a small element has {length} bytes")
            self.at += 8
        else:
            padding = 0 if first == COMPRESSED else -length % 8
            self.at = min(start + length + padding, len(self.data))
        if start + length > len(self.data):
            raise ValueError("it ends within an element")
        return first, self.data[start : start + length]

    def numbers(self) -> NDArray[Any]:
        """The next element as numbers."""
        kind, data = self.element()
        if kind not in TYPES:
            raise ValueError(f"there is an element of type {kind} where numbers should be")
        dtype = np.dtype(self.order + TYPES[kind])
        if len(data) % dtype.itemsize:
            raise ValueError("an element ends within a number")
        return np.frombuffer(data, dtype)


def _variable(part: _Part, depth: int) -> tuple[str, Any]:
    if not part.left:
        return "", np.zeros((0, 0))
    flags = part.numbers()
    shape = tuple(int(n) for n in part.numbers())
    name = part.element()[1].decode("latin1")
    if flags.size != 2 or len(shape) < 2 or min(shape) < 0 or depth > DEEPEST:
        raise ValueError("an array has no flags or no shape")
    kind, count = int(flags[0]) & 0xFF, math.prod(shape)
    if kind in NUMBERS:
        values = part.numbers()
        if int(flags[0]) & COMPLEX or values.size != count:
            raise ValueError(f"an array of shape {list(shape)} holds {values.size} numbers")
        # Whole numbers are stored in fewer bytes than their class has.
        native = np.dtype(NUMBERS[kind])
        return name, values.reshape(shape, order="F").astype(native)
    if kind == CHAR:
        code, data = part.element()
        if code not in TEXTS:
            raise ValueError(f"there is an element of type {code} where text should be")
        ends = "" if TEXTS[code] in ("latin1", "utf-8") else "-le" if part.order == "<" else "-be"
        return name, data.decode(TEXTS[code] + ends)
    if kind == CELL:
        return name, _several(part, count, depth)
    if kind == STRUCT:
        fields = _fields(part)
        inner = _several(part, count * len(fields), depth)
        rows = [inner[row * len(fields) : (row + 1) * len(fields)] for row in range(count)]
        return name, [dict(zip(fields, row, strict=True)) for row in rows]
    raise ValueError(f"there is an array of class {kind}, which is not read")


def _fields(part: _Part) -> list[str]:
    lengths, names = part.numbers(), part.element()[1]
    length = int(lengths[0]) if lengths.size == 1 else 0
    if length < 1 or len(names) % length:
        raise ValueError("a struct has no names of fields")
    whole = (names[start : start + length] for start in range(0, len(names), length))
    return [each.split(b"\0")[0].decode("latin1") for each in whole]


def _several(part: _Part, count: int, depth: int) -> list[Any]:
    if 8 * count > part.left:
        raise ValueError(f"there is no room for {count} arrays")
    found = []
    for _ in range(count):
        kind, data = part.element()
        if kind != MATRIX:
            raise ValueError(f"there is an element of type {kind} where an array should be")
        found.append(_variable(_Part(data, part.order), depth + 1)[1])
    return found
