"""Weka's attribute-relation files (ARFF): tables whose columns are numbers or names out of a list."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUMERIC = ("numeric", "real", "integer")
# A name between quotes, in which a backslash escapes, or a bare one up to what ends it.
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_ATTRIBUTE = re.compile(rf"@attribute\s+({_QUOTED}|[^\s{{}},%]+)\s*(\{{.*\}}|\S.*)", re.IGNORECASE)
# A comment behind something: outside of quotes and of the braces of a list, after a space or a list.
_BEHIND = re.compile(
    rf"(?:{_QUOTED}|\{{(?:{_QUOTED}|[^'\"}}])*\}}|(?<![\s}}])%|[^'\"{{%])*(?<=[\s}}])(%)", re.DOTALL
)
# Values between spaces or tabs.
_SPACED = re.compile(rf"(?:(?:{_QUOTED}|[^\s'\"]+)(?:\s+|$))+")
_LIST = re.compile(rf"\{{((?:{_QUOTED}|[^'\"}}])*)\}}")
_WEIGHT = re.compile(r",\s*\{[^{},]*\}$")
_CELL = re.compile(rf"\s*({_QUOTED}|[^,'\"]*?)\s*(,|$)")


@dataclass(frozen=True)
class Attribute:
    """A column.

    Attributes:
        name: as the file has it, without quotes.
        values: the names it may have, in their order; None for numbers.
    """

    name: str
    values: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Table:
    """What a file holds.

    Attributes:
        relation: its title.
        attributes: the columns.
        rows: ``float64[N, A]``: numbers, or places in :attr:`Attribute.values`; NaN where a value is missing.
    """

    relation: str
    attributes: tuple[Attribute, ...]
    rows: NDArray[np.float64]


def parse(content: str) -> Table:
    """A table from the text of a file.

    Columns of strings and dates, tables within tables and weights of rows are refused: nothing here reads
    them. As in Weka, a comment may stand behind an attribute or a row, and spaces or tabs may separate the
    values of a row that has no comma.

    Raises:
        ValueError: it is not such a file; the message has the line.
    """
    relation: str | None = None
    attributes: list[Attribute] = []
    lines = iter(enumerate(content.splitlines(), 1))
    for number, line in lines:
        line = line.strip()
        if not line or line.startswith("%"):
            continue
        word = line.split(None, 1)[0].lower()
        if word == "@data" and relation is not None and attributes:
            names = [each.name for each in attributes]
            if len(set(names)) < len(names):
                raise ValueError("two attributes have the same name")
            return Table(relation, tuple(attributes), _rows(lines, attributes))
        if word == "@relation" and relation is None and not attributes:
            relation = _bare(line[len(word) :].strip())
        elif word == "@attribute" and relation is not None:
            attributes.append(_attribute(line, number))
        else:
            raise ValueError(
                f"line {number}: expected @relation, then @attribute of every column, then @data, and found "
                f"{line[:60]!r}"
            )
    raise ValueError("it ends before @data, or it is no ARFF file")


def decoded(content: bytes) -> str:
    """The text of a file in UTF-8, in whose comments any byte may be.

    Raises:
        ValueError: something else is not UTF-8; the message has the line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        lines = content.removeprefix(codecs.BOM_UTF8).splitlines()
        return "\n".join(_decoded(line, number) for number, line in enumerate(lines, 1))


def _decoded(line: bytes, number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character for each byte, so that places are the same.
        kept = len(_without_comment(line.decode("latin-1")))
        if error.start < kept:
            raise ValueError(f"line {number}: byte {error.start} is no text in UTF-8") from None
        return line[:kept].decode("utf-8")


def _without_comment(line: str) -> str:
    """A line up to its comment, if it has one."""
    if line.lstrip().startswith("%"):
        return ""
    found = _BEHIND.match(line)
    return line if found is None else line[: found.start(1)]


def _bare(name: str) -> str:
    """A name without its quotes."""
    if len(name) > 1 and name[0] in "'\"" and name[-1] == name[0]:
        return re.sub(r"\\(.)", r"\1", name[1:-1])
    return name


def _attribute(line: str, number: int) -> Attribute:
    found = _ATTRIBUTE.fullmatch(_without_comment(line).strip())
    if found is None:
        raise ValueError(f"line {number}: {line[:60]!r} is no '@attribute name type'")
    name, kind = _bare(found[1]), found[2].strip()
    if kind.startswith("{"):
        listed = _LIST.fullmatch(kind)
        if listed is None:
            raise ValueError(f"line {number}: the list of values of {name!r} does not end with }}")
        values = tuple(_cells(listed[1], number))
        if len(set(values)) < len(values) or "" in values:
            raise ValueError(f"line {number}: {name!r} lists a value twice, or an empty one")
        return Attribute(name, values)
    if kind.lower() not in NUMERIC:
        raise ValueError(
            f"line {number}: {name!r} is of type {kind[:30]!r}; numbers ({', '.join(NUMERIC)}) and lists of "
            "values are read"
        )
    return Attribute(name)


def _cells(line: str, number: int) -> list[str]:
    """What stands between commas; those between quotes do not count."""
    if "'" not in line and '"' not in line:
        return [cell.strip() for cell in line.split(",")]
    cells, place, more = [], 0, True
    while more:
        found = _CELL.match(line, place)
        if found is None:
            raise ValueError(
                f"line {number}: the quotes in {line[place : place + 40]!r} do not fit"
            )
        cells.append(_bare(found[1]))
        place, more = found.end(), found[2] == ","
    return cells


def _rows(lines: Iterator[tuple[int, str]], attributes: Sequence[Attribute]) -> NDArray[np.float64]:
    codes = [
        None if each.values is None else {value: float(k) for k, value in enumerate(each.values)}
        for each in attributes
    ]
    rows = []
    for number, line in lines:
        line = line.strip()
        if not line or line.startswith("%"):
            continue
        try:
            rows.append(_row(line, number, attributes, codes))
        except ValueError as error:
            # Only what is no row as it stands is looked at for what a row may have besides.
            plain = _without_comment(line).strip()
            if _WEIGHT.search(re.sub(_QUOTED, "", plain)):
                raise ValueError(
                    f"line {number}: the row ends with a weight in braces, which is not read; take it out"
                ) from None
            cells = _apart(plain)
            if cells == [line]:
                raise error
            rows.append(_row(",".join(cells), number, attributes, codes))
    if not rows:
        raise ValueError("there is no row after @data")
    return np.array(rows)


def _apart(row: str) -> list[str]:
    """The values of a row without a comma, which spaces or tabs separate; any other row as it is."""
    if row.startswith("{") or "," in re.sub(_QUOTED, "", row) or not _SPACED.fullmatch(row):
        return [row]
    return re.findall(rf"{_QUOTED}|[^\s'\"]+", row)


def _row(
    line: str,
    number: int,
    attributes: Sequence[Attribute],
    codes: Sequence[dict[str, float] | None],
) -> list[float]:
    cells = _sparse(line, number, codes) if line.startswith("{") else _cells(line, number)
    if len(cells) != len(attributes):
        raise ValueError(f"line {number}: {len(cells)} values for {len(attributes)} attributes")
    try:
        return [_value(cell, code) for cell, code in zip(cells, codes, strict=True)]
    except ValueError:
        bad = next(k for k, cell in enumerate(cells) if not _fits(cell, codes[k]))
        raise ValueError(
            f"line {number}: {attributes[bad].name!r} cannot be {cells[bad][:30]!r}"
        ) from None


def _sparse(line: str, number: int, codes: Sequence[dict[str, float] | None]) -> list[str]:
    """A row of ``{index value, ...}``: other numbers are 0, other names the first of their list."""
    cells = ["0" if code is None else next(iter(code)) for code in codes]
    if not line.endswith("}"):
        raise ValueError(f"line {number}: the row begins with {{ and does not end with }}")
    seen = set()
    for pair in filter(None, _pairs(line[1:-1], number)):
        index, _, value = pair.partition(" ")
        if not index.isdecimal() or int(index) >= len(cells) or int(index) in seen:
            raise ValueError(f"line {number}: {pair[:30]!r} is no 'index value' of a sparse row")
        seen.add(int(index))
        cells[int(index)] = _bare(value.strip())
    return cells


def _pairs(inside: str, number: int) -> list[str]:
    pairs, place = [], 0
    pair = re.compile(rf"\s*(\d+\s+(?:{_QUOTED}|[^,'\"]+?))\s*(,|$)")
    while inside[place:].strip():
        found = pair.match(inside, place)
        if found is None:
            raise ValueError(
                f"line {number}: {inside[place : place + 30]!r} is no 'index value' of a sparse row"
            )
        pairs.append(found[1].replace("\t", " "))
        place = found.end()
    return pairs


def _value(cell: str, code: dict[str, float] | None) -> float:
    if cell == "?":
        return math.nan
    if code is None:
        value = float(cell)
        if not math.isfinite(value) or "_" in cell:
            raise ValueError
        return value
    if cell not in code:
        raise ValueError
    return code[cell]


def _fits(cell: str, code: dict[str, float] | None) -> bool:
    try:
        _value(cell, code)
    except ValueError:
        return False
    return True
