"""QM9: eleven properties of small molecules from their geometry, as density functional theory finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from equipoise.nn import Trunk, architecture
from equipoise.nn.backbones.mlp import mlp
from equipoise.nn.backbones.mpnn import mpnn
from equipoise.problems import options as check
from equipoise.problems.base import Problem, SplitName
from equipoise.problems.data import Tensors
from equipoise.problems.files import DataSet
from equipoise.problems.files.texts import Version, version
from equipoise.problems.metrics import mean_absolute_error
from equipoise.problems.tables import geometry
from equipoise.problems.tables import qm9_files as files
from equipoise.problems.tasks import Task

# Millielectronvolt: of a Hartree, and of a kilocalorie per mole (CODATA 2018).
HARTREE, KILOCALORIE = 27211.386245988, 43.364104
# The unit that errors are told in, and its factor.
UNITS: Mapping[str, tuple[str, float]] = {
    "mu": ("D", 1.0),
    "alpha": ("bohr^3", 1.0),
    "homo": ("meV", HARTREE),
    "lumo": ("meV", HARTREE),
    "r2": ("bohr^2", 1.0),
    "zpve": ("meV", HARTREE),
    "u0": ("meV", HARTREE),
    "u298": ("meV", HARTREE),
    "h298": ("meV", HARTREE),
    "g298": ("meV", HARTREE),
    "cv": ("cal/(mol K)", 1.0),
}
ENERGIES = ("u0", "u298", "h298", "g298")
LOSSES: Mapping[str, Callable[..., Any]] = {"mse": functional.mse_loss, "l1": functional.l1_loss}
# The split of the literature, from this number of molecules on; that of the subset, and in its proportion.
LARGE, LITERATURE = 125_000, (110_000, 10_000)
SUBSET, SMALL = 14_170, (10_000, 2_000)
# One seed for the division, not the seed of a trial: every trial sees the same data.
SEED = 2014

METHODS = ["uw", "uw_o", "uw_so", "imtl_l", "dwa", "gls", "cagrad", "pcgrad", "nash_mtl", "famo"]
PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Nash-MTL and those after it: Adam, rate 0.001, batches of 120, 300 epochs, three seeds. They lower the
    # rate where validation stands still, which needs a schedule of yours; here it falls along a cosine.
    "navon2022": {
        "methods": METHODS,
        "learning_rates": [0.0005, 0.001, 0.005],
        "seeds": 3,
        "epochs": 300,
        "batch_size": 120,
    },
    # LibMTL's example: as above, with batches of 128.
    "libmtl": {
        "methods": METHODS,
        "learning_rates": [0.001],
        "seeds": 3,
        "epochs": 300,
        "batch_size": 128,
    },
    "perceptron": {
        "methods": METHODS,
        "learning_rates": [0.0003, 0.001, 0.003],
        "seeds": 5,
        "epochs": 30,
        "batch_size": 128,
        "problem_options": {"network": "mlp"},
    },
    "quick": {
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.003],
        "seeds": 3,
        "epochs": 6,
        "batch_size": 128,
        "problem_options": {
            "network": "mlp",
            "rows": 6_000,
            "width": 128,
            "tasks": ["mu", "lumo", "r2", "u0"],
        },
    },
}


def _complaints(folder: Path) -> Iterator[str]:
    there = len(files.read(folder, DATASET))
    known = (SUBSET, files.WHOLE, files.WHOLE - files.EXCLUDED)
    if there not in known:
        yield str(
            DATASET.wrong(folder, f"there are {there} molecules, and neither set has as many")
        )


DATASET = DataSet(
    name="qm9",
    page=(
        "https://moleculenet.org/datasets-1 (gdb9.sdf and gdb9.sdf.csv, as MoleculeNet packs QM9) and "
        "https://doi.org/10.6084/m9.figshare.c.978904.v5 (uncharacterized.txt, as its authors publish it)"
    ),
    licence="CC0",
    files={
        files.GEOMETRIES: None,
        files.PROPERTIES: None,
        files.UNSURE: None,
        files.SUBSET: None,
    },
    optional=frozenset({files.PROPERTIES, files.UNSURE}),
    one_of=((files.SUBSET, files.GEOMETRIES),),
    examine=_complaints,
)
DATA = (DATASET,)


@dataclass(frozen=True)
class Division:
    """Molecules, divided; targets are to be standardised by the rows of training.

    Attributes:
        molecules: all of them.
        targets: ``float64[N, 11]``.
        index: rows of each split.
        mean: of each property in training.
        deviation: the standard deviation of each.
    """

    molecules: files.Geometries
    targets: NDArray[np.float64]
    index: Mapping[SplitName, NDArray[np.int64]]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


@lru_cache(maxsize=1)
def _read(folder: Path, seen: Version) -> files.Geometries:
    return files.read(folder, DATASET)


@lru_cache(maxsize=2)
def divided(folder: Path, seen: Version, rows: int | None, energies: str) -> Division:
    """Molecules at random: 110,000 / 10,000 / rest of the whole set, 10,000 / 2,000 / rest of the subset.

    Other numbers of molecules are divided in the proportions of the subset.

    Raises:
        DataError: the files are wrong.
        ValueError: too few rows are kept.
    """
    found = _read(folder, seen)
    order = np.random.default_rng(SEED).permutation(len(found))[:rows]
    train, validation = (
        LITERATURE if len(order) >= LARGE else (len(order) * part // SUBSET for part in SMALL)
    )
    parts = np.split(order, [train, train + validation])
    index: dict[SplitName, NDArray[np.int64]] = {
        "train": np.sort(parts[0]),
        "validation": np.sort(parts[1]),
        "test": np.sort(parts[2]),
    }
    atomisation = energies == "atomisation"
    columns = [f"{n}_atom" if atomisation and n in ENERGIES else n for n in UNITS]
    targets = found.properties[:, [files.COLUMNS.index(name) for name in columns]]
    known = targets[index["train"]]
    if min(map(len, index.values())) < 1 or not (known.std(0) > 0).all():
        what = f"{len(order)} molecules are too few, or alike"
        if rows is not None:
            raise ValueError(f"rows is {rows}, and {what}; give more rows, or None for all")
        raise DATASET.wrong(folder, what)
    return Division(found, targets, index, known.mean(0), known.std(0))


@lru_cache(maxsize=1)
def splits(
    folder: Path, seen: Version, rows: int | None, energies: str, network: str
) -> dict[SplitName, Tensors]:
    """Every split, with standardised targets ``float32[N, 1]``.

    Inputs are elements ``uint8[N, 29]`` and places ``float32[N, 29, 3]``, or standardised descriptors.
    """
    found = divided(folder, seen, rows, energies)
    molecules = found.molecules
    values = (found.targets - found.mean) / found.deviation
    parts = {}
    for part, index in found.index.items():
        inputs: Any = molecules.elements[index], molecules.positions[index]
        if network == "mlp":
            inputs = geometry.descriptors(*inputs)
            if part == "train":
                mean, deviation = inputs.mean(0), inputs.std(0)
                # What is padding in every molecule of training stays 0.
                deviation[deviation < 1e-9] = np.inf
            inputs = torch.from_numpy((inputs - mean) / deviation).float()
        else:
            inputs = tuple(map(torch.from_numpy, inputs))
        targets = torch.from_numpy(values[index]).float()
        parts[part] = Tensors(inputs, {name: targets[:, k : k + 1] for k, name in enumerate(UNITS)})
    return parts


def qm9(
    arch: str = "hard_sharing",
    width: int | None = None,
    tasks: Sequence[str] | None = None,
    network: Literal["mpnn", "mlp"] = "mpnn",
    loss: Literal["mse", "l1"] = "mse",
    energies: Literal["atomisation", "total"] = "atomisation",
    rows: int | None = None,
) -> Problem:
    """Eleven properties of molecules of up to nine heavy atoms: mu, alpha, homo, lumo, r2, zpve, u0, ..., cv.

    Args:
        arch: architecture, see :func:`equipoise.nn.architecture`.
        width: of the layers; None: 64, or 256 for the perceptron.
        tasks: some of the properties; None for all.
        network: ``"mpnn"``: messages between all atoms of the geometry, the network of the literature.
            ``"mlp"``: two layers on the eigenvalues of the Coulomb matrix and the numbers of atoms, which
            train in seconds and know little of shape.
        loss: ``"mse"``, as in the literature, or ``"l1"``, of standardised targets.
        energies: u0, u298, h298 and g298 above those of the free atoms, as in the literature, or
            ``"total"``, which the numbers of atoms nearly tell.
        rows: so many molecules at random, 10 or more, for speed; None for all.

    Raises:
        ValueError: an option cannot be what was given for it.

    References:
        Ramakrishnan et al., *Quantum chemistry structures and properties of 134 kilo molecules*, Scientific
        Data 2014, doi:10.1038/sdata.2014.22; as eleven tasks in Navon et al., 2022, arXiv:2202.01017.
    """
    check.word("arch", arch)
    check.word("network", network, ("mpnn", "mlp"))
    check.word("loss", loss, LOSSES)
    check.word("energies", energies, ("atomisation", "total"))
    check.rows(rows)
    check.sizes(width=1 if width is None else width)
    folder = DATASET.folder()
    seen = version(folder)
    size = width if width is not None else 256 if network == "mlp" else 64

    def trunk() -> Trunk:
        if network == "mlp":
            return mlp(files.ATOMS + len(geometry.ELEMENTS), (size, size))
        return geometry.in_space(mpnn(geometry.NODE_FEATURES, geometry.EDGE_FEATURES, size))

    def model(names: Sequence[str]) -> nn.Module:
        return architecture(arch, trunk(), {name: nn.Linear(size, 1) for name in names})

    units = dict(UNITS)
    if energies == "atomisation":
        units |= dict.fromkeys(ENERGIES, ("meV", KILOCALORIE))
    deviations = divided(folder, seen, rows, energies).deviation.tolist()
    return Problem(
        name="qm9",
        tasks=tuple(
            Task(
                name=name,
                loss=LOSSES[loss],
                metrics=(mean_absolute_error(unit, factor * deviation),),
            )
            for (name, (unit, factor)), deviation in zip(units.items(), deviations, strict=True)
        ),
        data=lambda part: splits(folder, seen, rows, energies, network)[part],
        model=model,
        piece=256,
        about=(
            "Dipole moment, polarisability, orbital energies, size, vibration, four energies of formation "
            "and heat capacity of a molecule: properties of one geometry, hard to different degrees."
        ),
        cite="QM9 (doi:10.1038/sdata.2014.22), CC0; as eleven tasks in Nash-MTL (arXiv:2202.01017)",
    ).only(check.tasks(tasks))
