"""Tables of molecules with labels, as MoleculeNet has them: SMILES to bits, and how they are divided."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer
from torch import Tensor, nn

from equipoise.nn import Trunk
from equipoise.problems.base import SplitName
from equipoise.problems.files import DataSet, needs
from equipoise.problems.files.texts import text

EXTRA = "molecules"
# What RDKit's rules of valence refuse and MoleculeNet has all the same: eight compounds of Tox21.
UNUSUAL = "[AlH3]"


@dataclass(frozen=True)
class Molecules:
    """A table of them.

    Attributes:
        path: the file.
        smiles: one string each.
        lines: of the file, where each stands.
        labels: ``float64[N, T]``, NaN where a molecule was not tried.
    """

    path: Path
    smiles: tuple[str, ...]
    lines: tuple[int, ...]
    labels: NDArray[np.float64]


def read(
    path: Path,
    data: DataSet,
    tasks: Sequence[str],
    label: Callable[[str, str], float],
) -> Molecules:
    """The molecules of a file, with some of its columns.

    Args:
        path: a table with commas and a line of names; columns are found by these.
        data: the data set it belongs to.
        tasks: names of the columns to read, next to ``smiles``.
        label: a number from a task and a cell; raises ValueError where the cell cannot be right.

    Raises:
        DataError: a column is missing, a line is cut off or a label is wrong.
    """
    reader = csv.reader(text(path, data).splitlines(), strict=True)
    smiles, lines, labels = [], [], []
    try:
        head = next(reader)
        gone = [name for name in ("smiles", *tasks) if name not in head]
        if gone:
            raise data.wrong(path, f"it has no column {gone[0]!r}")
        places = [head.index(name) for name in tasks]
        where = head.index("smiles")
        for row in reader:
            if len(row) != len(head):
                what = f"line {reader.line_num}: {len(row)} cells under {len(head)} names"
                raise data.wrong(path, what)
            try:
                labels.append([label(t, row[k]) for t, k in zip(tasks, places, strict=True)])
            except ValueError as error:
                raise data.wrong(path, f"line {reader.line_num}: {error}") from None
            if not row[where].strip():
                raise data.wrong(path, f"line {reader.line_num}: there is no SMILES string")
            smiles.append(row[where].strip())
            lines.append(reader.line_num)
    except csv.Error as error:
        raise data.wrong(path, f"line {reader.line_num}: {error}") from None
    if not smiles:
        raise data.wrong(path, "there is no molecule in it")
    return Molecules(path, tuple(smiles), tuple(lines), np.array(labels))


def sample(molecules: Molecules, rows: int | None, seed: int) -> Molecules:
    """Some of the molecules at random, in the order of the file; None for all."""
    if rows is None or rows >= len(molecules.smiles):
        return molecules
    kept = np.sort(np.random.default_rng(seed).permutation(len(molecules.smiles))[:rows])
    smiles, lines = (tuple(each[k] for k in kept) for each in (molecules.smiles, molecules.lines))
    return Molecules(molecules.path, smiles, lines, molecules.labels[kept])


def too_few(molecules: Molecules, data: DataSet, rows: int | None, what: str) -> ValueError:
    """The error where molecules cannot be divided: the file's fault only where all of it was taken."""
    if rows is None:
        return data.wrong(molecules.path, what)
    return ValueError(f"rows is {rows}, and {what}; give more rows, or None for all")


class Bits(nn.Module):
    """Turns bits, which are kept as bytes, into the floats that layers take."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Floats of the same shape."""
        return inputs.float()


def of_bits(trunk: Trunk) -> Trunk:
    """A trunk of floats as one of bits."""

    def stages() -> list[nn.Module]:
        first, *rest = trunk.stages()
        return [nn.Sequential(Bits(), first), *rest]

    return Trunk(stages, trunk.channels)


def yes_or_no(task: str, cell: str) -> float:
    """A label of a classification: 0, 1 or nothing."""
    if cell.strip() == "":
        return math.nan
    if cell.strip() not in ("0", "1", "0.0", "1.0"):
        raise ValueError(f"{task} is {cell[:20]!r} and should be 0, 1 or empty")
    return float(cell)


def drawn(molecules: Molecules, data: DataSet) -> list[Any]:
    """The molecules as RDKit has them.

    Raises:
        ImportError: RDKit is not installed.
        DataError: a string is no SMILES; the message has its line.
    """
    chem, base = needs("rdkit.Chem", EXTRA), needs("rdkit.rdBase", EXTRA)
    found = []
    # RDKit writes to the console on its own; our error says what it says.
    with base.BlockLogs():
        for smiles, line in zip(molecules.smiles, molecules.lines, strict=True):
            molecule = chem.MolFromSmiles(smiles)
            if molecule is None and UNUSUAL in smiles:
                molecule = chem.MolFromSmiles(smiles, sanitize=False)
                if molecule is not None:
                    molecule.UpdatePropertyCache(strict=False)
                    every = chem.SanitizeFlags.SANITIZE_ALL
                    chem.SanitizeMol(molecule, every ^ chem.SanitizeFlags.SANITIZE_PROPERTIES)
            if molecule is None or molecule.GetNumAtoms() == 0:
                raise data.wrong(molecules.path, f"line {line}: {smiles[:60]!r} is no molecule")
            found.append(molecule)
    return found


def fingerprints(
    molecules: Molecules, data: DataSet, bits: int = 2048, radius: int = 2
) -> NDArray[np.uint8]:
    """Morgan's circular fingerprints (ECFP), ``uint8[N, bits]`` of 0 and 1.

    Args:
        molecules: the table.
        data: the data set it belongs to.
        bits: their number.
        radius: in bonds, of the surroundings of an atom that a bit stands for; 2 makes ECFP4.
    """
    make = needs("rdkit.Chem.rdFingerprintGenerator", EXTRA)
    generator = make.GetMorganGenerator(radius=radius, fpSize=bits)
    found = [generator.GetFingerprintAsNumPy(each) for each in drawn(molecules, data)]
    return np.stack(found).astype(np.uint8)


def pieces(molecules: Molecules, bits: int = 2048) -> NDArray[np.uint8]:
    """Hashed pieces of one to four letters of the strings, ``uint8[N, bits]`` of 0 and 1, without RDKit."""
    hashing = HashingVectorizer(
        analyzer="char",
        ngram_range=(1, 4),
        n_features=bits,
        lowercase=False,
        binary=True,
        norm=None,
    )
    return np.asarray(abs(hashing.transform(molecules.smiles)).toarray(), dtype=np.uint8)


def scaffolds(molecules: Molecules, data: DataSet) -> list[str]:
    """The Bemis-Murcko scaffold of each, as SMILES: its rings and what joins them."""
    murcko = needs("rdkit.Chem.Scaffolds.MurckoScaffold", EXTRA)
    return [murcko.MurckoScaffoldSmiles(mol=each) for each in drawn(molecules, data)]


def at_random(kinds: Sequence[Hashable], seed: int) -> dict[SplitName, NDArray[np.int64]]:
    """80, 10 and 10 % of the rows at random; those of one kind, as one molecule twice, stay together."""
    groups = list(_groups(kinds).values())
    order = np.random.default_rng(seed).permutation(len(groups))
    return _filled([groups[k] for k in order], len(kinds))


def by_kind(kinds: Sequence[Hashable]) -> dict[SplitName, NDArray[np.int64]]:
    """80, 10 and 10 % of the rows; the largest kinds come into training, the rarest into the test."""
    groups = sorted(_groups(kinds).values(), key=lambda rows: (-len(rows), rows[0]))
    return _filled(groups, len(kinds))


def _groups(kinds: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    groups: dict[Hashable, list[int]] = {}
    for row, kind in enumerate(kinds):
        groups.setdefault(kind, []).append(row)
    return groups


def _filled(groups: Sequence[Sequence[int]], rows: int) -> dict[SplitName, NDArray[np.int64]]:
    """Groups as they come, into training up to 80 % of the rows, validation up to 90 %, and the test."""
    parts: dict[SplitName, list[int]] = {"train": [], "validation": [], "test": []}
    for group in groups:
        done = len(parts["train"]) + len(group)
        if done <= 0.8 * rows:
            parts["train"] += group
        elif done + len(parts["validation"]) <= 0.9 * rows:
            parts["validation"] += group
        else:
            parts["test"] += group
    return {name: np.array(sorted(part), dtype=np.int64) for name, part in parts.items()}
