"""Tox21: which of twelve biological assays a molecule sets off; and ClinTox, its neighbour of two tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from equipoise.nn import architecture
from equipoise.nn.backbones.mlp import mlp
from equipoise.problems import options as check
from equipoise.problems.base import Problem, SplitName
from equipoise.problems.data import Tensors
from equipoise.problems.files import DataSet
from equipoise.problems.files.texts import Version, version
from equipoise.problems.metrics import average_precision, roc_auc
from equipoise.problems.tables import molecules as chemistry
from equipoise.problems.tasks import Task

ASSAYS: Mapping[str, tuple[str, ...]] = {
    "tox21": (
        "NR-AR",
        "NR-AR-LBD",
        "NR-AhR",
        "NR-Aromatase",
        "NR-ER",
        "NR-ER-LBD",
        "NR-PPAR-gamma",
        "SR-ARE",
        "SR-ATAD5",
        "SR-HSE",
        "SR-MMP",
        "SR-p53",
    ),
    "clintox": ("FDA_APPROVED", "CT_TOX"),
}
ROWS = {"tox21": 7831, "clintox": 1478}
# One seed for the division, not the seed of a trial: every trial sees the same data.
SEED = 2021

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # MoleculeNet's multi-task network: one layer of 1,500, dropout 0.5, batches of 50, 10 epochs, rate
    # 0.001 (the settings "tf" of its code); the rates around it are ours, so that each method has a choice.
    "wu2018": {
        "methods": ["uw", "uw_o", "uw_so", "imtl_l", "dwa", "gls", "cagrad", "pcgrad", "nash_mtl"],
        "learning_rates": [0.0003, 0.001, 0.003],
        "seeds": 5,
        "epochs": 10,
        "batch_size": 50,
        "schedule": "constant",
        "problem_options": {"width": 1500, "dropout": 0.5},
    },
    "quick": {
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.01],
        "seeds": 3,
        "epochs": 4,
        "batch_size": 128,
        "weight_decay": 0.01,
        "problem_options": {
            "rows": 4000,
            "width": 128,
            "bits": 1024,
            "dropout": 0.2,
            "tasks": ["NR-AhR", "SR-ARE", "SR-MMP"],
        },
    },
}


def _complaints(folder: Path) -> Iterator[str]:
    for name, assays in ASSAYS.items():
        if name == "clintox" and not list(folder.glob("clintox.csv*")):
            continue
        path = DATASET.within(folder, f"{name}.csv")
        try:
            found = chemistry.read(path, DATASET, assays, chemistry.yes_or_no)
            if len(found.smiles) != ROWS[name]:
                what = f"it has {len(found.smiles)} molecules and should have {ROWS[name]}"
                yield str(DATASET.wrong(path, what))
        except ValueError as error:
            yield str(error)


DATASET = DataSet(
    name="molnet",
    page="https://moleculenet.org/datasets-1",
    licence="Tox21: US government data, public domain; ClinTox: published with MoleculeNet, MIT",
    files={"tox21.csv": None, "clintox.csv": None},
    optional=frozenset({"clintox.csv"}),
    examine=_complaints,
)
DATA = (DATASET,)


@lru_cache(maxsize=1)
def splits(
    path: Path, seen: Version, data: str, rows: int | None, features: str, bits: int, split: str
) -> dict[SplitName, Tensors]:
    """Every split: bits ``uint8[N, bits]`` and labels ``float32[N, 1]`` by assay.

    Raises:
        DataError: the file is wrong.
        ValueError: too few rows are kept.
    """
    every = chemistry.read(path, DATASET, ASSAYS[data], chemistry.yes_or_no)
    found = chemistry.sample(every, rows, SEED)
    if features == "fingerprint":
        inputs = torch.from_numpy(chemistry.fingerprints(found, DATASET, bits))
    else:
        inputs = torch.from_numpy(chemistry.pieces(found, bits))
    if split == "scaffold":
        index = chemistry.by_kind(chemistry.scaffolds(found, DATASET))
    else:
        index = chemistry.at_random(found.smiles, SEED)
    labels = torch.from_numpy(found.labels).float()
    for part, places in index.items():
        if not len(places):
            what = f"{len(found.smiles)} molecules leave none for {part}"
            raise chemistry.too_few(found, DATASET, rows, what)
    return {
        part: Tensors(
            inputs[torch.from_numpy(places)],
            {
                name: labels[torch.from_numpy(places), k : k + 1]
                for k, name in enumerate(ASSAYS[data])
            },
        )
        for part, places in index.items()
    }


def tox21(
    arch: str = "hard_sharing",
    width: int = 512,
    tasks: Sequence[str] | None = None,
    data: Literal["tox21", "clintox"] = "tox21",
    features: Literal["fingerprint", "hashed"] = "fingerprint",
    split: Literal["random", "scaffold"] = "random",
    rows: int | None = None,
    bits: int = 2048,
    layers: int = 1,
    dropout: float = 0.5,
) -> Problem:
    """Toxicity in twelve assays, with labels missing where a molecule was not tried.

    Args:
        arch: architecture, see :func:`equipoise.nn.architecture`.
        width: of the layers.
        tasks: some of the assays; None for all.
        data: ``"clintox"``: 1,478 drugs, approved or not, and failed for toxicity or not.
        features: ``"fingerprint"``: Morgan fingerprints by RDKit; ``"hashed"``: hashed pieces of the SMILES
            strings, which need no RDKit.
        split: ``"random"`` or ``"scaffold"``, 80, 10 and 10 %; by scaffold, no two splits have a ring
            system in common, which is harder.
        rows: so many at random, 10 or more, for speed; None for all.
        bits: number of inputs.
        layers: of the network.
        dropout: after each layer.

    Raises:
        ValueError: an option cannot be what was given for it.

    References:
        Wu et al., *MoleculeNet: A Benchmark for Molecular Machine Learning*, Chemical Science 2018,
        arXiv:1703.00564.
    """
    check.word("arch", arch)
    check.word("data", data, ASSAYS)
    check.word("features", features, ("fingerprint", "hashed"))
    check.word("split", split, ("random", "scaffold"))
    check.rows(rows)
    check.sizes(width=width, bits=bits, layers=layers)
    check.shares(dropout=dropout)
    path = DATASET.file(f"{data}.csv")
    seen = version(path)

    def model(names: Sequence[str]) -> nn.Module:
        trunk = chemistry.of_bits(mlp(bits, (width,) * layers, dropout))
        return architecture(arch, trunk, {name: nn.Linear(width, 1) for name in names})

    return Problem(
        name="tox21",
        tasks=tuple(
            Task(
                name=name,
                loss=functional.binary_cross_entropy_with_logits,
                metrics=(roc_auc(), average_precision()),
                missing=float("nan"),
            )
            for name in ASSAYS[data]
        ),
        data=lambda part: splits(path, seen, data, rows, features, bits, split)[part],
        model=model,
        about=(
            f"{len(ASSAYS[data])} yes-or-no questions about a molecule; most answers are no, and a "
            "molecule was not tried in every assay."
        ),
        cite="Tox21 (NIH, EPA, FDA) and ClinTox, as in MoleculeNet (arXiv:1703.00564)",
    ).only(check.tasks(tasks))
