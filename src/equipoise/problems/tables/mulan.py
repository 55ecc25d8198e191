"""The Mulan collection of multi-target regression: several targets of one small table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from equipoise.nn import architecture
from equipoise.nn.backbones.mlp import mlp
from equipoise.problems import options as check
from equipoise.problems.base import Problem, SplitName
from equipoise.problems.data import Tensors
from equipoise.problems.files import DataError, DataSet
from equipoise.problems.files.arff import Table, decoded, parse
from equipoise.problems.files.texts import Version, version, whole
from equipoise.problems.metrics import average_relative_rmse, relative_rmse
from equipoise.problems.tasks import Task

# How many of the last columns are targets, by table: Spyromitros-Xioufis et al. (2016), table 2.
TARGETS: Mapping[str, int] = {
    "andro": 6,
    "atp1d": 6,
    "atp7d": 6,
    "edm": 2,
    "enb": 2,
    "jura": 3,
    "oes10": 16,
    "oes97": 16,
    "osales": 12,
    "rf1": 8,
    "rf2": 8,
    "scm1d": 16,
    "scm20d": 16,
    "scpf": 3,
    "sf1": 3,
    "sf2": 3,
    "slump": 3,
    "wq": 14,
}
FOLDS = 10
# One seed for the folds, not the seed of a trial: every trial sees the same data.
SEED = 1016

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # No paper trains such networks on all of the collection; rows are few, so many epochs are cheap.
    "default": {
        "methods": ["uw", "uw_o", "uw_so", "imtl_l", "dwa", "cagrad", "pcgrad", "nash_mtl"],
        "learning_rates": [0.001, 0.003, 0.01],
        "weight_decay": 0.001,
        "seeds": 5,
        "epochs": 60,
        "batch_size": 32,
    },
    "quick": {
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.003],
        "weight_decay": 0.001,
        "seeds": 3,
        "epochs": 15,
        "batch_size": 32,
        "problem_options": {"table": "enb"},
    },
}


def _complaints(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.arff*")):
        name = path.name.split(".")[0]
        try:
            found = _parsed(path)
            if len(found.attributes) <= TARGETS.get(name, 1):
                yield str(DATASET.wrong(path, f"it has {len(found.attributes)} attributes"))
        except ValueError as error:
            yield str(error)


DATASET = DataSet(
    name="mulan_mtr",
    page="https://mulan.sourceforge.net/datasets-mtr.html",
    licence="sets of the UCI repository CC BY 4.0, OES public domain; see the page for the others",
    files={
        **{f"{name}.arff": None for name in TARGETS},
        "enb.arff": "3491e6e11b45dbd81ce6f84cafcc4388",
        "oes10.arff": "fddab5b5fdae4eba0ce1d4aeb1156e5f",
        "sf1.arff": "9810893b14fb4bb93de8de5c9e6746fa",
        "slump.arff": "4a967b57a3d367edbc58558b8d543688",
    },
    one_of=(tuple(f"{name}.arff" for name in TARGETS),),
    examine=_complaints,
)
DATA = (DATASET,)


@dataclass(frozen=True)
class Columns:
    """A table as numbers, before it is standardised.

    Attributes:
        inputs: ``float64[N, P]``; a column with a list of values is one column for each of them.
        targets: ``float64[N, T]``.
        names: of the targets.
    """

    inputs: NDArray[np.float64]
    targets: NDArray[np.float64]
    names: tuple[str, ...]


def _parsed(path: Path) -> Table:
    try:
        return parse(decoded(whole(path, DATASET)))
    except DataError:
        raise
    except ValueError as error:
        raise DATASET.wrong(path, str(error)) from None


@lru_cache(maxsize=4)
def columns(path: Path, seen: Version, targets: int) -> Columns:
    """Inputs and targets of a file.

    Args:
        path: of the file.
        seen: its version, by which one that has changed is read again.
        targets: how many columns are, from the right.

    Raises:
        DataError: the file is wrong, or a target is not a number.
    """
    table = _parsed(path)
    if len(table.attributes) <= targets:
        what = f"it has {len(table.attributes)} attributes, and the last {targets} are targets"
        raise DATASET.wrong(path, what)
    last = table.attributes[-targets:]
    for each in last:
        if each.values is not None:
            raise DATASET.wrong(path, f"target {each.name!r} is a name and not a number")
    parts = []
    for attribute, column in zip(table.attributes[:-targets], table.rows.T, strict=False):
        if attribute.values is None:
            parts.append(column[:, None])
            continue
        each = (column[:, None] == np.arange(len(attribute.values))).astype(np.float64)
        each[np.isnan(column)] = np.nan
        parts.append(each)
    # Modules are called by the names of tasks, and torch takes no dot there.
    names = tuple(each.name.replace(".", "_") for each in last)
    return Columns(np.concatenate(parts, axis=1), table.rows[:, -targets:], names)


def parts(rows: int, fold: int) -> dict[SplitName, NDArray[np.int64]]:
    """Which rows belong to which split: a tenth to the test, the next tenth to validation."""
    order = np.random.default_rng(SEED).permutation(rows)
    tenths = [order[k::FOLDS] for k in range(FOLDS)]
    validation = (fold + 1) % FOLDS
    train = [tenth for k, tenth in enumerate(tenths) if k not in (fold, validation)]
    return {
        "train": np.sort(np.concatenate(train)),
        "validation": np.sort(tenths[validation]),
        "test": np.sort(tenths[fold]),
    }


@lru_cache(maxsize=2)
def splits(
    path: Path,
    seen: Version,
    targets: int,
    fold: int,
    logarithm: bool,
    wanted: Sequence[str] | None,
) -> dict[SplitName, Tensors]:
    """Every split, standardised by the rows of training, with the targets that are wanted; None for all.

    Raises:
        DataError: the file is wrong or too short, or a target has one value in a split.
    """
    found = columns(path, seen, targets)
    if len(found.targets) < 3 * FOLDS:
        what = f"{len(found.targets)} rows are too few for {FOLDS} folds"
        raise DATASET.wrong(path, what)
    index = parts(len(found.targets), fold)
    inputs = np.sign(found.inputs) * np.log1p(np.abs(found.inputs)) if logarithm else found.inputs
    # A missing input becomes the mean of training; a missing target is no label.
    x = np.nan_to_num(_standardised(inputs, index["train"]), nan=0.0)
    y = _standardised(found.targets, index["train"])
    names = found.names if wanted is None else wanted
    columns_of = {name: k for k, name in enumerate(found.names) if name in names}
    for name, k in columns_of.items():
        for split, rows in index.items():
            if np.isnan(y[rows, k]).all() or (split == "train" and not np.nanstd(y[rows, k]) > 0):
                others = ",".join(each for each in found.names if each != name)
                what = f"target {name!r} has one value or none in {split} of fold {fold}"
                remedy = f"take another fold, or leave it out: tasks={others}"
                raise DataError(path, what, remedy)
    return {
        split: Tensors(
            torch.from_numpy(x[rows].astype(np.float32)),
            {
                name: torch.from_numpy(y[rows, k : k + 1].astype(np.float32))
                for name, k in columns_of.items()
            },
        )
        for split, rows in index.items()
    }


def _standardised(values: NDArray[np.float64], train: NDArray[np.int64]) -> NDArray[np.float64]:
    """Columns with mean 0 and standard deviation 1 over the rows of training; constants become 0."""
    known = values[train]
    count = np.maximum((~np.isnan(known)).sum(0), 1)
    mean = np.nansum(known, 0) / count
    deviation = np.sqrt(np.nansum((known - mean) ** 2, 0) / count)
    # What is constant but for rounding stays so.
    deviation[deviation <= 1e-9 * np.maximum(np.abs(mean), 1e-300)] = np.inf
    return np.asarray((values - mean) / deviation)


def mulan(
    arch: str = "hard_sharing",
    width: int = 64,
    tasks: Sequence[str] | None = None,
    table: str = "oes10",
    targets: int | None = None,
    fold: int = 0,
    logarithm: bool = False,
    dropout: float = 0.1,
) -> Problem:
    """Several targets of one of Mulan's tables, and a small perceptron.

    Args:
        arch: architecture, see :func:`equipoise.nn.architecture`.
        width: of its two layers.
        tasks: names of some of the targets; None for all.
        table: name of the file, without ``.arff``: see :data:`TARGETS`, or another one.
        targets: how many of the last columns are targets; None for what is documented.
        fold: 0 to 9, which tenth is the test; the next one is validation.
        logarithm: of the inputs, ``sign(x) log(1 + |x|)``, for those that span decades.
        dropout: after each layer.

    Raises:
        ValueError: the table's number of targets is not known, or an option cannot be what was given for it.

    References:
        Spyromitros-Xioufis et al., *Multi-Target Regression via Input Space Expansion: Treating Targets
        as Inputs*, Machine Learning 2016, arXiv:1211.6581.
    """
    check.word("arch", arch)
    check.sizes(width=width)
    check.whole("fold", fold, 0, FOLDS - 1)
    check.flag("logarithm", logarithm)
    check.shares(dropout=dropout)
    chosen = check.tasks(tasks)
    check.word("table", table)
    count = TARGETS.get(table) if targets is None else check.whole("targets", targets, 2)
    if count is None:
        raise ValueError(
            f"how many targets has table {table!r}? give targets=, two or more; known: "
            f"{', '.join(f'{name} {n}' for name, n in TARGETS.items())}"
        )
    path = DATASET.file(f"{table}.arff")
    seen = version(path)
    found = columns(path, seen, count)

    def data(split: SplitName) -> Tensors:
        return splits(path, seen, count, fold, logarithm, chosen)[split]

    def model(names: Sequence[str]) -> nn.Module:
        trunk = mlp(found.inputs.shape[1], (width, width), dropout)
        return architecture(arch, trunk, {name: nn.Linear(width, 1) for name in names})

    return Problem(
        name="mulan",
        tasks=tuple(
            Task(
                name=name,
                loss=functional.mse_loss,
                metrics=(relative_rmse(),),
                missing=float("nan"),
            )
            for name in found.names
        ),
        data=data,
        model=model,
        metrics=(average_relative_rmse(),),
        about=(
            f"Table {table!r} of the Mulan collection: {count} targets, "
            f"{found.inputs.shape[1]} inputs, {len(found.targets)} rows, fold {fold} of {FOLDS}."
        ),
        cite="Spyromitros-Xioufis et al. (2016, arXiv:1211.6581)",
    ).only(chosen)
