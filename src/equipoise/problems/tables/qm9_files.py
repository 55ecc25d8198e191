"""Files of QM9: the official ones (an SDF of geometries, a table of properties), or a subset as arrays."""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from equipoise.problems.files import DataSet
from equipoise.problems.files.texts import text, whole

ATOMS = 29
NUMBERS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
COLUMNS = (
    *("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u298", "h298"),
    *("g298", "cv", "u0_atom", "u298_atom", "h298_atom", "g298_atom"),
)
SUBSET = "qm9_subset.npz"
GEOMETRIES, PROPERTIES, UNSURE = "gdb9.sdf", "gdb9.sdf.csv", "uncharacterized.txt"
# Molecules of the whole set, and those of them whose geometry did not stay that of their SMILES.
WHOLE, EXCLUDED = 133_885, 3_054


@dataclass(frozen=True)
class Geometries:
    """Molecules in space.

    Attributes:
        elements: atomic numbers, ``uint8[N, 29]``, 0 behind the last atom.
        positions: in angstrom, ``float32[N, 29, 3]``.
        properties: ``float64[N, 19]``, in the order of :data:`COLUMNS` and the units of the publication.
    """

    elements: NDArray[np.uint8]
    positions: NDArray[np.float32]
    properties: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.elements)


def read(folder: Path, data: DataSet) -> Geometries:
    """The molecules of a folder: the official files where they are, or else the subset.

    Raises:
        DataError: neither is there, or one is wrong.
    """
    official = any((folder / name).is_file() for name in (GEOMETRIES, f"{GEOMETRIES}.gz"))
    return _official(folder, data) if official else _subset(data.within(folder, SUBSET), data)


def _subset(path: Path, data: DataSet) -> Geometries:
    wanted = {"z": "u", "pos": "f", "targets": "f", "target_names": "U"}
    content = io.BytesIO(whole(path, data))
    try:
        with zipfile.ZipFile(content) as archive:
            # Reads every array to its end and compares the check sums.
            bad = archive.testzip()
        if bad is not None:
            raise ValueError(f"{bad} is damaged")
        content.seek(0)
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in wanted}
    # What a damaged archive raises is as good as anything.
    except Exception as error:
        raise data.wrong(path, f"it cannot be read ({error})") from error
    z, positions, targets = arrays["z"], arrays["pos"], arrays["targets"]
    for name, kind in wanted.items():
        if arrays[name].dtype.kind != kind:
            raise data.wrong(path, f"{name} is of type {arrays[name].dtype}")
    if (
        z.ndim != 2
        or z.shape[1] != ATOMS
        or positions.shape != (*z.shape, 3)
        or targets.shape != (len(z), len(COLUMNS))
    ):
        raise data.wrong(path, "the shapes of z, pos and targets do not fit")
    if tuple(arrays["target_names"].tolist()) != COLUMNS:
        raise data.wrong(path, f"target_names should be {', '.join(COLUMNS)}")
    found = Geometries(z.astype(np.uint8), positions.astype(np.float32), targets.astype(np.float64))
    _check(found, path, data)
    return found


def _check(found: Geometries, path: Path, data: DataSet) -> None:
    """Refuses what is no molecule of H, C, N, O and F."""
    known = np.isin(found.elements, [0, *NUMBERS.values()]).all(1)
    there = found.elements > 0
    # Atoms first, padding behind.
    ordered = (there[:, 1:] <= there[:, :-1]).all(1) & there[:, 0]
    finite = np.isfinite(found.positions).all((1, 2)) & np.isfinite(found.properties).all(1)
    near = np.abs(found.positions).max(initial=0, axis=(1, 2)) < 100
    good = known & ordered & finite & near
    if not len(good) or not good.all():
        what = f"molecule {int(np.argmin(good)) + 1} is none" if len(good) else "it is empty"
        raise data.wrong(path, f"{what} (elements, places or properties)")


def _official(folder: Path, data: DataSet) -> Geometries:
    table, shapes = data.within(folder, PROPERTIES), data.within(folder, GEOMETRIES)
    names, properties = _properties(table, data)
    elements = np.zeros((len(names), ATOMS), dtype=np.uint8)
    positions = np.zeros((len(names), ATOMS, 3), dtype=np.float32)
    count = 0
    for count, (name, symbols, places) in enumerate(_molecules(shapes, data), 1):
        if count > len(names) or name != names[count - 1]:
            wanted = names[count - 1] if count <= len(names) else "the end"
            raise data.wrong(shapes, f"molecule {count} is {name!r}, and {table.name} has {wanted}")
        elements[count - 1, : len(symbols)] = symbols
        positions[count - 1, : len(symbols)] = places
    if count != len(names):
        raise data.wrong(shapes, f"it ends after {count} of {len(names)} molecules")
    found = Geometries(elements, positions, properties)
    _check(found, shapes, data)
    try:
        unsure = data.within(folder, UNSURE)
    except ValueError:
        return found
    kept = np.ones(len(names), dtype=bool)
    kept[_excluded(unsure, names, data)] = False
    return Geometries(elements[kept], positions[kept], properties[kept])


def _properties(path: Path, data: DataSet) -> tuple[list[str], NDArray[np.float64]]:
    reader = csv.reader(text(path, data).splitlines(), strict=True)
    names, rows = [], []
    try:
        head = next(reader)
        if tuple(head) != ("mol_id", *COLUMNS):
            raise data.wrong(path, f"its columns should be mol_id, {', '.join(COLUMNS)}")
        for name, *cells in reader:
            if len(cells) != len(COLUMNS):
                raise data.wrong(path, f"line {reader.line_num}: {len(cells)} properties")
            names.append(name)
            rows.append([float(cell) for cell in cells])
            bad = next((k for k, value in enumerate(rows[-1]) if not math.isfinite(value)), None)
            if bad is not None:
                what = f"line {reader.line_num}: {COLUMNS[bad]} is {cells[bad][:20]!r}"
                raise data.wrong(path, what)
    except (csv.Error, ValueError) as error:
        if hasattr(error, "remedy"):
            raise
        raise data.wrong(path, f"line {reader.line_num}: {error}") from None
    if not rows:
        raise data.wrong(path, "there is no molecule in it")
    return names, np.array(rows)


def _molecules(path: Path, data: DataSet) -> Iterator[tuple[str, list[int], list[list[float]]]]:
    """Name, atomic numbers and places of each molecule of an SDF (molfile V2000)."""
    blocks = text(path, data).split("$$$$")
    if blocks.pop().strip():
        raise data.wrong(path, f"it is cut off after molecule {len(blocks)}")
    for number, block in enumerate(blocks, 1):
        lines = block.lstrip("\r\n").splitlines()
        try:
            count = int(lines[3][:3])
            atoms = lines[4 : 4 + count]
            if not 1 <= count <= ATOMS or len(atoms) < count or "M  END" not in block:
                raise ValueError(f"{count} atoms, or its end is missing")
            symbols = [NUMBERS[line[31:34].strip()] for line in atoms]
            places = [[float(line[k : k + 10]) for k in (0, 10, 20)] for line in atoms]
        except (ValueError, LookupError) as error:
            raise data.wrong(path, f"molecule {number} cannot be read ({error})") from None
        yield lines[0].strip(), symbols, places


def _excluded(path: Path, names: list[str], data: DataSet) -> list[int]:
    """Rows of the molecules that the publication calls uncharacterized: lines that begin with a number."""
    places = {name.removeprefix("gdb_"): k for k, name in enumerate(names)}
    found = []
    for number, line in enumerate(text(path, data).splitlines(), 1):
        words = line.split()
        if len(words) < 2 or not words[0].isdecimal() or words[1].startswith("compound"):
            continue
        if words[0] not in places:
            raise data.wrong(path, f"line {number}: there is no molecule {words[0]}")
        found.append(places[words[0]])
    if len(names) == WHOLE and len(set(found)) != EXCLUDED:
        raise data.wrong(path, f"it lists {len(set(found))} molecules and not {EXCLUDED}")
    return found
