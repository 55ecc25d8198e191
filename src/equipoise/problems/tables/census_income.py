"""Census-Income (KDD): two questions about one person, the pairs of the MMoE paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

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
from equipoise.problems.files import DataSet
from equipoise.problems.files.texts import Version, text, version
from equipoise.problems.metrics import average_precision, roc_auc
from equipoise.problems.tables import census_rows as census
from equipoise.problems.tasks import Task

PAIRS: Mapping[str, tuple[str, str]] = {
    "income": ("income", "never_married"),
    "education": ("college", "never_married"),
}
ROWS = {"census-income.data": 199_523, "census-income.test": 99_762}
# Of the test file alone: 60,000 rows for training, 20,000 for the test, and what is left.
ALONE = (60_000 / 99_762, 20_000 / 99_762)
# One seed for the division, not the seed of a trial: every trial sees the same data.
SEED = 1994

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The MMoE paper tunes each method and does not print what it found: batch size and epochs are ours.
    "ma2018": {
        "methods": ["uw", "uw_o", "uw_so", "imtl_l", "dwa", "cagrad", "pcgrad", "nash_mtl"],
        "learning_rates": [0.0003, 0.001, 0.003],
        "seeds": 5,
        "epochs": 10,
        "batch_size": 512,
        "weight_decay": 0.0001,
    },
    "quick": {
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.005],
        "seeds": 3,
        "epochs": 2,
        "batch_size": 256,
        "problem_options": {"rows": 12_000, "width": 64},
    },
}


def _complaints(folder: Path) -> Iterator[str]:
    for name, count in ROWS.items():
        try:
            path = DATASET.within(folder, name)
        except ValueError:
            continue
        try:
            lines, there = _lines(path)
            if len(there) != count:
                yield str(DATASET.wrong(path, f"it has {len(there)} rows and should have {count}"))
            census.table(path, lines, there, DATASET)
        except ValueError as error:
            yield str(error)


DATASET = DataSet(
    name="census_income_kdd",
    page="https://archive.ics.uci.edu/dataset/117/census+income+kdd",
    licence="CC BY 4.0",
    files={"census-income.data": None, "census-income.test": "b82952d217858365c8e597827e3e5468"},
    optional=frozenset({"census-income.data"}),
    examine=_complaints,
)
DATA = (DATASET,)


def _lines(path: Path) -> tuple[list[str], NDArray[np.int64]]:
    """The lines of a file, and which of them are rows: an empty one is none, and still counts as a line."""
    lines = text(path, DATASET).splitlines()
    return lines, np.array([k for k, line in enumerate(lines) if line.strip()], dtype=np.int64)


@lru_cache(maxsize=1)
def cells(
    root: Path, seen: Version, order: str, rows: int | None
) -> dict[SplitName, dict[str, tuple[str, ...]]]:
    """The cells of every split, by column.

    With the official training file that is the training split, and the test file is halved at random, as in
    the MMoE paper; without it the test file is divided 60,000 / 19,762 / 20,000.

    Args:
        root: the folder.
        seen: the version of its files, by which those that have changed are read again.
        order: ``"permuted"``, or ``"rows"`` to divide the test file as it stands.
        rows: how many of training to keep; a third of that of the other splits. None for all.
    """
    test = DATASET.within(root, "census-income.test")
    lines, index = _lines(test)
    if order == "permuted":
        index = index[np.random.default_rng(SEED).permutation(len(index))]
    try:
        path = DATASET.within(root, "census-income.data")
    except ValueError:
        path = None
    if path is not None:
        (training, there), other = _lines(path), len(index) // 2
        shuffled = np.random.default_rng([SEED, 1]).permutation(len(there))
        found = {"train": _part(path, training, there[shuffled], rows)}
    else:
        first, last = (round(share * len(index)) for share in ALONE)
        found = {"train": _part(test, lines, index[:first], rows)}
        index, other = index[first:], len(index) - first - last
    few = None if rows is None else max(rows // 3, 1)
    found["validation"] = _part(test, lines, index[:other], few)
    found["test"] = _part(test, lines, index[other:], few)
    return found  # type: ignore[return-value]


def _part(
    path: Path, lines: list[str], index: NDArray[np.int64], rows: int | None
) -> dict[str, tuple[str, ...]]:
    if not len(index):
        raise DATASET.wrong(path, "it has too few rows to be divided")
    return census.table(path, lines, index[:rows], DATASET)


@lru_cache(maxsize=2)
def splits(
    root: Path, seen: Version, pair: str, order: str, rows: int | None, telling: bool
) -> tuple[dict[SplitName, Tensors], tuple[int, ...]]:
    """Every split, and how many codes each column of categories has.

    The weight of a row in the sample and the columns of both labels are no inputs. Numbers are standardised
    by the rows of training; values that are not among these have the code 0.
    """
    parts = cells(root, seen, order, rows)
    labels = {task: census.LABELS[task] for task in PAIRS[pair]}
    dropped = {"instance_weight", "income_50k", *(column.name for column in labels.values())}
    names = [n for n in census.COLUMNS if n not in dropped and (telling or n not in census.TELLING)]
    numeric = [name for name in names if name in census.NUMBERS]
    codes = {
        name: census.vocabulary(parts["train"][name])
        for name in names
        if name not in census.NUMBERS
    }
    known = census.numbers(parts["train"], numeric)
    mean, deviation = known.mean(0), known.std(0)
    deviation[deviation == 0] = 1.0
    found = {}
    for split, part in parts.items():
        values = (census.numbers(part, numeric) - mean) / deviation
        rest = (map(code.get, part[name], repeat(0)) for name, code in codes.items())
        coded = np.stack([np.fromiter(column, np.int64, len(values)) for column in rest], axis=1)
        yes = {task: np.isin(part[column.name], column.yes) for task, column in labels.items()}
        found[split] = Tensors(
            (torch.from_numpy(values.astype(np.float32)), torch.from_numpy(coded)),
            {task: torch.from_numpy(each).float().unsqueeze(1) for task, each in yes.items()},
        )
    return found, tuple(len(code) + 1 for code in codes.values())


def census_income(
    arch: str = "hard_sharing",
    width: int = 128,
    tasks: Sequence[str] | None = None,
    pair: Literal["income", "education"] = "income",
    order: Literal["permuted", "rows"] = "permuted",
    rows: int | None = None,
    telling: bool = True,
    layers: int = 2,
    embedding: int = 8,
    dropout: float = 0.0,
    options: Mapping[str, Any] | None = None,
) -> Problem:
    """Income above 50,000 dollars (or a college degree), and never married.

    Args:
        arch: architecture, see :func:`equipoise.nn.architecture`; ``"mmoe"`` is that of the paper.
        width: of the layers.
        tasks: both of the pair; None for the same.
        pair: ``"income"``: group 1 of the paper. ``"education"``: group 2, whether somebody has a college
            degree (associate's or higher), and never married.
        order: without the official training file: how the test file is divided, at random or as it stands.
        rows: for training, 30 or more, a third of that for validation and test; None for all.
        telling: whether the three columns that nearly spell out who never married are inputs, as they are in
            the paper: two on the place in the household ("Child 18+ never marr ..."), one on the tax file.
        layers: of the network.
        embedding: size of that of a category.
        dropout: after each layer.
        options: of the architecture, such as ``{"experts": 8}``.

    Raises:
        ValueError: an option cannot be what was given for it.

    References:
        Ma et al., *Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts*,
        KDD 2018, doi:10.1145/3219819.3220007.
    """
    check.word("arch", arch)
    check.word("pair", pair, PAIRS)
    check.word("order", order, ("permuted", "rows"))
    check.rows(rows, 30)
    check.flag("telling", telling)
    check.sizes(width=width, layers=layers, embedding=embedding)
    check.shares(dropout=dropout)
    more = check.mapping("options", options)
    root = DATASET.folder()
    seen = version(root)
    DATASET.within(root, "census-income.test")

    def found() -> tuple[dict[SplitName, Tensors], tuple[int, ...]]:
        return splits(root, seen, pair, order, rows, telling)

    def model(names: Sequence[str]) -> nn.Module:
        numbers, categories = len(census.NUMBERS), found()[1]
        trunk = mlp(numbers, (width,) * layers, dropout, categories=categories, embedding=embedding)
        heads = {name: nn.Linear(width, 1) for name in names}
        return architecture(arch, trunk, heads, **more)

    return Problem(
        name="census_income",
        tasks=tuple(
            Task(
                name=name,
                loss=functional.binary_cross_entropy_with_logits,
                metrics=(roc_auc(), average_precision()),
            )
            for name in PAIRS[pair]
        ),
        data=lambda split: found()[0][split],
        model=model,
        about=(
            "Two yes-or-no questions about a person in the US census of 1994 and 1995. Columns on the "
            "household nearly tell who never married; the other answer is rarer and harder."
        ),
        cite="Census-Income (KDD), UCI, CC BY 4.0; the pairs of MMoE (doi:10.1145/3219819.3220007)",
    ).only(check.tasks(tasks))
