"""PAWS-X: do two sentences say the same? A task for each language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from equipoise.nn import architecture
from equipoise.problems import options as check
from equipoise.problems.base import Problem, SplitName
from equipoise.problems.files import DataError, DataSet
from equipoise.problems.language.draws import Sampling, drawn
from equipoise.problems.language.encoders import (
    LONGEST,
    as_inputs,
    pieces_of,
    refuse,
    transformer,
)
from equipoise.problems.language.metrics import macro_f1
from equipoise.problems.language.pairs import comparing, numbers, split, told
from equipoise.problems.language.paraphrases import PAGE, Row, held_out, pairs
from equipoise.problems.language.sequences import Ragged, Sequences
from equipoise.problems.language.text import Stamp, complaint, first_of, one_of, spread, stamp
from equipoise.problems.metrics import accuracy
from equipoise.problems.per_task import PerTask
from equipoise.problems.tasks import Task
from equipoise.problems.training import LIN2022

LANGUAGES = ("en", "zh", "de", "es")

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "lin2022": {
        "problem_options": {"network": "bert", "weights": "bert-base-multilingual-cased"},
        "methods": LIN2022,
        "learning_rates": [1e-5, 2e-5, 5e-5],
        "optimizer": "torch.optim:Adam",
        "schedule": "constant",
        "weight_decay": 1e-8,
        "seeds": 5,
        # The paper tells no number of epochs; the best one on validation is taken.
        "epochs": 5,
        "checkpoint": "loss",
        "batch_size": 128,
    },
    "small": {
        "methods": ["uw", "uw_o", "dwa", "imtl_l", "mgda", "pcgrad", "cagrad"],
        "learning_rates": [0.001, 0.002, 0.005],
        "seeds": 5,
        "epochs": 3,
        "batch_size": 128,
        "weight_decay": 0.01,
    },
    "quick": {
        "problem_options": {"rows": 600},
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.005],
        "seeds": 3,
        "epochs": 2,
        "batch_size": 128,
        "weight_decay": 0.01,
    },
}


def names(language: str, split: SplitName) -> list[str]:
    """What a file may be called: in one folder, or as it is handed out."""
    part = {"train": "train", "validation": "dev", "test": "test"}[split]
    own = {
        "train": ["translated_train", "train"],
        "validation": ["dev_2k"],
        "test": ["test_2k"],
    }[split]
    official = [f"{top}{language}/{name}.tsv" for top in ("x-final/", "") for name in own]
    return [f"{language}-{part}.tsv", *official]


def file(language: str, split: SplitName) -> Path | None:
    """The file of a language and split; None where there is none for training.

    Raises:
        DataError: that for validation or test is not there.
    """
    every = names(language, split)
    return first_of(DATASET.folder(), every) if split == "train" else one_of(DATASET, every)


def _examined(folder: Path) -> Iterator[str]:
    paths = sorted([*folder.rglob("*.tsv"), *folder.rglob("*.tsv.gz")])
    yield from filter(None, (complaint(pairs, path) for path in paths))


DATASET = DataSet(
    name="pawsx",
    page=PAGE,
    licence="may be used for any purpose; Google LLC asks to be named as the source",
    files={"**/*.tsv*": None},
    examine=_examined,
)
DATA = (DATASET,)


@lru_cache(maxsize=32)
def _read(at: Stamp) -> list[Row]:
    return pairs(at.path)


def _files(languages: Sequence[str], split: SplitName) -> dict[str, Stamp] | None:
    """The files of all languages; None where there are none for training.

    Raises:
        DataError: only some languages have a training file.
    """
    found = {language: file(language, split) for language in languages}
    missing = [language for language, path in found.items() if path is None]
    if len(missing) == len(languages):
        return None
    if missing:
        raise DataError(
            DATASET.folder() / names(missing[0], split)[0],
            "there is no such training file, but other languages have one",
            "put the training files of all languages there, or of none",
        )
    return {language: stamp(path) for language, path in found.items() if path is not None}


def rows_of(languages: Sequence[str], split: SplitName) -> dict[str, list[Row]]:
    """The rows of a split, by language.

    Without training files the dev files are divided, so that no sentence is in both parts: see
    :func:`~equipoise.problems.language.paraphrases.held_out`.

    Raises:
        DataError: a file is missing or wrong, or has no row in this split.
    """
    trained = _files(languages, "train")
    at = trained if split == "train" and trained else None
    if at is None:
        at = _files(languages, "test" if split == "test" else "validation")
    assert at is not None
    found = {language: _read(where) for language, where in at.items()}
    if trained or split == "test":
        return found
    held = held_out(found)
    wanted = split == "validation"
    parts = {
        language: [row for row in rows if (row.id in held) == wanted]
        for language, rows in found.items()
    }
    for language, rows in parts.items():
        if not rows:
            part = "validation" if wanted else "training"
            raise DataError(
                at[language].path,
                f"none of its ids is in the {part} split, into which the pairs of all languages are divided",
                f"put training files there, or leave the language {language!r} out",
            )
    return parts


def _of_words(rows: Sequence[Row], language: str) -> Sequences:
    cut = [(split(row.first), split(row.second)) for row in rows]
    inputs = (
        Ragged.of([told(first, second) for first, second in cut]),
        Ragged.of([told(second, first) for first, second in cut]),
        torch.tensor([numbers(first, second) for first, second in cut]),
    )
    return Sequences(inputs, {language: torch.tensor([row.label for row in rows])})


def _of_pieces(rows: Sequence[Row], language: str, weights: str) -> Sequences:
    """Both sentences in a row; where it is too long, the longer one is cut."""
    pieces = pieces_of(weights)
    cut = [(row.first.split(), row.second.split()) for row in rows]
    known = pieces.of(word for pair in cut for words in pair for word in words)
    inputs, types = [], []
    for pair in cut:
        first, second = ([piece for word in words for piece in known[word]] for words in pair)
        while len(first) + len(second) > LONGEST - 3:
            (first if len(first) > len(second) else second).pop()
        inputs.append([pieces.start, *first, pieces.end, *second, pieces.end])
        types.append([0] * (len(first) + 2) + [1] * (len(second) + 1))
    labels = {language: torch.tensor([row.label for row in rows])}
    return Sequences(as_inputs(inputs, pieces.pad, types), labels)


@lru_cache(maxsize=8)
def _sources(
    now: tuple[Stamp, ...],
    languages: tuple[str, ...],
    split: SplitName,
    rows: int | None,
    small: bool,
    weights: str,
) -> dict[str, Sequences]:
    """The examples of a split by language; ``now`` makes what is kept belong to the files as they are."""
    found = {}
    for language, every in rows_of(languages, split).items():
        kept = [every[row] for row in spread(len(every), rows)]
        found[language] = (
            _of_words(kept, language) if small else _of_pieces(kept, language, weights)
        )
    return found


def pawsx(
    arch: str = "hard_sharing",
    width: int = 32,
    tasks: Sequence[str] | None = None,
    languages: Sequence[str] = LANGUAGES,
    network: str = "small",
    weights: str = "",
    sampling: Sampling = "together",
    rows: int | None = None,
) -> Problem:
    """Tell whether two sentences of many words in common say the same, in several languages.

    Args:
        arch: architecture, see :func:`equipoise.nn.architecture`.
        width: of the network; that of loaded weights is their own.
        tasks: some of the languages; None for all.
        languages: a task each; a list, or names with commas between them.
        network: ``"small"``, convolutions over hashed words beside numbers that tell which words were moved;
            or ``"bert"``.
        weights: folder of a BERT; empty: a small one from scratch.
        sampling: ``"together"``: a batch of every language in each step. ``"proportional"``, a temperature
            or weights by language: a batch of one, which is drawn.
        rows: training pairs of each language at most, 10 or more; None for all.

    Raises:
        DataError: a file is missing or wrong.
        ValueError: a language, network or way of sampling is unknown, or an option cannot be what was given
            for it.

    References:
        Yang et al., *PAWS-X*, EMNLP 2019, arXiv:1908.11828. Languages follow Lin et al., *Reasonable
        Effectiveness of Random Weighting*, TMLR 2022, arXiv:2111.10603.
    """
    check.word("arch", arch)
    check.sizes(width=width)
    refuse(network)
    check.rows(rows)
    languages = check.words("languages", languages, 2)
    if not isinstance(weights, str):
        raise ValueError(f"weights is {weights!r}; give the name of a folder, or nothing")
    draw = drawn(sampling, languages)
    small = network == "small"

    def data(split: SplitName) -> PerTask:
        parts: list[SplitName] = ["train", "validation", "test"]
        found = [_files(languages, part) for part in parts]
        now = tuple(at for every in found if every for at in every.values())
        kept = rows if split == "train" else None
        return PerTask(_sources(now, tuple(languages), split, kept, small, weights), draw)

    def model(wanted: Sequence[str]) -> nn.Module:
        trunk = comparing(width) if small else transformer(width, weights, "pooler")
        heads = {name: nn.Linear(trunk.features, 2) for name in wanted}
        return architecture(arch, trunk, heads)

    return Problem(
        name="pawsx",
        tasks=tuple(
            Task(name=language, loss=functional.cross_entropy, metrics=(accuracy(), macro_f1(2)))
            for language in languages
        ),
        data=data,
        model=model,
        piece=256,
        about=(
            "Two sentences with many words in common: do they say the same? The pairs were made by swapping "
            "words and by translating there and back, and translated into every language."
        ),
        cite="PAWS-X (arXiv:1908.11828)",
    ).only(check.tasks(tasks))
