"""Parts of speech of Universal Dependencies, a task for each language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from equipoise.nn import Trunk, architecture
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
from equipoise.problems.language.metrics import macro_f1, token_accuracy
from equipoise.problems.language.sequences import Ragged, Sequences
from equipoise.problems.language.text import Stamp, broken, complaint, lines, one_of, spread, stamp
from equipoise.problems.language.words import convolutional, table
from equipoise.problems.per_task import PerTask
from equipoise.problems.tasks import Task
from equipoise.problems.training import LIN2022

LANGUAGES = ("en", "zh", "te", "vi")
# fmt: off
TAGS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT",
    "SCONJ", "SYM", "VERB", "X",
)
# fmt: on
NUMBER = {tag: number for number, tag in enumerate(TAGS)}
FILES: Mapping[SplitName, str] = {"train": "train", "validation": "dev", "test": "test"}
MISSING = -1

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
        "learning_rates": [0.003, 0.005, 0.01],
        "seeds": 5,
        "epochs": 4,
        "batch_size": 64,
    },
    "quick": {
        "problem_options": {"rows": 1000},
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.005],
        "seeds": 3,
        "epochs": 2,
        "batch_size": 64,
    },
}


class Sentence(NamedTuple):
    """Words and the numbers of their tags."""

    words: tuple[str, ...]
    tags: tuple[int, ...]


def sentences(path: Path) -> list[Sentence]:
    """The sentences of a file: ``word<TAB>tag`` on each line, and an empty line after each sentence.

    Raises:
        DataError: a line is something else, or there is no sentence.
    """
    remedy = f"fetch it anew from {DATASET.page}"
    found: list[Sentence] = []
    words: list[str] = []
    tags: list[int] = []

    def closed() -> None:
        if words:
            found.append(Sentence(tuple(words), tuple(tags)))
            words.clear()
            tags.clear()

    for number, line in lines(path, remedy):
        if not line:
            closed()
            continue
        columns = line.split("\t")
        if len(columns) != 2:
            hint = "; XTREME strips the tags from test files" if len(columns) == 1 else ""
            what = f"has {len(columns)} columns and not a word and its tag{hint}"
            broken(path, number, what, remedy)
        word, tag = columns
        if not word.strip():
            broken(path, number, "has a tag but no word", remedy)
        if tag not in NUMBER:
            what = f"has the tag {tag!r}, which is none of {', '.join(TAGS)}"
            broken(path, number, what, remedy)
        words.append(word)
        tags.append(NUMBER[tag])
    closed()
    if not found:
        raise DataError(path, "there is no sentence in it", remedy)
    return found


def names(language: str, part: str) -> tuple[str, str]:
    """What a file may be called: as treebanks are cut here, or as XTREME writes it."""
    return f"{language}-{part}.tsv", f"{part}-{language}.tsv"


def file(language: str, split: SplitName) -> Path:
    """The file of a language and split.

    Raises:
        DataError: it is not there.
    """
    return one_of(DATASET, names(language, FILES[split]))


def _examined(folder: Path) -> Iterator[str]:
    paths = sorted([*folder.glob("*-*.tsv"), *folder.glob("*-*.tsv.gz")])
    yield from filter(None, (complaint(sentences, path) for path in paths))


DATASET = DataSet(
    name="udpos",
    page="https://github.com/google-research/xtreme",
    licence="that of each treebank, mostly CC BY-SA 4.0",
    files={"*-*.tsv*": None},
    examine=_examined,
)
DATA = (DATASET,)


@lru_cache(maxsize=32)
def _read(at: Stamp) -> list[Sentence]:
    return sentences(at.path)


@lru_cache(maxsize=32)
def _of_words(at: Stamp, rows: int | None, language: str) -> Sequences:
    every = _read(at)
    kept = [every[row] for row in spread(len(every), rows)]
    known = table(word for sentence in kept for word in sentence.words)
    inputs = Ragged.of([[known[word] for word in sentence.words] for sentence in kept])
    return Sequences(inputs, {language: Ragged.of([each.tags for each in kept], MISSING)})


@lru_cache(maxsize=32)
def _of_pieces(at: Stamp, rows: int | None, language: str, weights: str) -> Sequences:
    """Rows of pieces; the first piece of a word has its tag, the others none.

    A sentence that is too long goes on in another row, as in XTREME.
    """
    cut = pieces_of(weights)
    every = _read(at)
    kept = [every[row] for row in spread(len(every), rows)]
    known = cut.of(word for sentence in kept for word in sentence.words)
    inputs: list[list[int]] = []
    targets: list[list[int]] = []
    for sentence in kept:
        row, marks = [cut.start], [MISSING]
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            pieces = known[word][: LONGEST - 2]
            if len(row) + len(pieces) >= LONGEST:
                inputs.append([*row, cut.end])
                targets.append([*marks, MISSING])
                row, marks = [cut.start], [MISSING]
            row += pieces
            marks += [tag, *[MISSING] * (len(pieces) - 1)]
        inputs.append([*row, cut.end])
        targets.append([*marks, MISSING])
    return Sequences(as_inputs(inputs, cut.pad), {language: Ragged.of(targets, MISSING)})


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets)


def udpos(
    arch: str = "hard_sharing",
    width: int = 64,
    tasks: Sequence[str] | None = None,
    languages: Sequence[str] = LANGUAGES,
    network: str = "small",
    weights: str = "",
    sampling: Sampling = "together",
    rows: int | None = None,
) -> Problem:
    """Tag the words of several languages with their parts of speech.

    Args:
        arch: architecture, see :func:`equipoise.nn.architecture`.
        width: of the network; that of loaded weights is their own.
        tasks: some of the languages; None for all.
        languages: a task each; a list, or names with commas between them.
        network: ``"small"``, convolutions over hashed words and their beginnings and ends; or ``"bert"``.
        weights: folder of a BERT; empty: a small one from scratch.
        sampling: ``"together"``: a batch of every language in each step. ``"proportional"``, a temperature
            or weights by language: a batch of one, which is drawn.
        rows: training sentences of each language at most, 10 or more; None for all.

    Raises:
        DataError: a file is missing or wrong.
        ValueError: a language, network or way of sampling is unknown, or an option cannot be what was given
            for it.

    References:
        Hu et al., *XTREME*, ICML 2020, arXiv:2003.11080. Tasks and languages follow Lin et al.,
        *Reasonable Effectiveness of Random Weighting*, TMLR 2022, arXiv:2111.10603.
    """
    check.word("arch", arch)
    check.sizes(width=width)
    refuse(network)
    check.rows(rows)
    languages = check.words("languages", languages, 2)
    if not isinstance(weights, str):
        raise ValueError(f"weights is {weights!r}; give the name of a folder, or nothing")
    draw = drawn(sampling, languages)

    def data(split: SplitName) -> PerTask:
        kept = rows if split == "train" else None
        sources = {}
        for language in languages:
            at = stamp(file(language, split))
            sources[language] = (
                _of_words(at, kept, language)
                if network == "small"
                else _of_pieces(at, kept, language, weights)
            )
        return PerTask(sources, draw)

    def model(wanted: Sequence[str]) -> nn.Module:
        small = network == "small"
        trunk: Trunk = convolutional(width) if small else transformer(width, weights, "tokens")
        heads = {name: nn.Linear(trunk.features, len(TAGS)) for name in wanted}
        return architecture(arch, trunk, heads)

    return Problem(
        name="udpos",
        tasks=tuple(
            Task(
                name=language,
                loss=_loss,
                metrics=(token_accuracy(len(TAGS)), macro_f1(len(TAGS))),
                missing=MISSING,
            )
            for language in languages
        ),
        data=data,
        model=model,
        piece=256,
        about=(
            "Each word of a sentence gets one of 17 parts of speech. Every language is a task with a "
            "treebank of its own; the treebanks differ in size by a factor of ten and more."
        ),
        cite="Universal Dependencies, as cut in XTREME (arXiv:2003.11080)",
    ).only(check.tasks(tasks))
