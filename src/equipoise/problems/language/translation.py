"""Translation from one language into several, a task for each, from files of parallel text."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.nn import architecture
from equipoise.nn.backbones.encoder_decoder import Decoder, encoder_decoder, transformer_encoder
from equipoise.problems import options as check
from equipoise.problems.base import Problem, SplitName
from equipoise.problems.files import DataError, DataSet
from equipoise.problems.language.draws import Sampling, drawn
from equipoise.problems.language.parallel import count, files, pairs
from equipoise.problems.language.sequences import Ragged, Sequences
from equipoise.problems.language.subwords import (
    END,
    PADDING,
    Arrays,
    Subwords,
    encoded,
    kept_arrays,
    kept_model,
    ragged,
    trained,
)
from equipoise.problems.language.text import Stamp, spread, stamp
from equipoise.problems.language.translator import Translator, measured, smoothed
from equipoise.problems.per_task import PerTask
from equipoise.problems.tasks import Task

FILES: Mapping[SplitName, str] = {"train": "train", "validation": "dev", "test": "test"}
DECODERS = ("shared", "own")
# Width of a head of attention.
HEAD = 64
SCHEDULE = "equipoise.problems.training:inverse_sqrt"

_XIN: Mapping[str, Any] = {
    "optimizer": "torch.optim:Adam",
    "schedule": SCHEDULE,
    "learning_rates": [0.05, 0.1, 0.5, 1.0, 2.5, 5.0],
    "batch_size": 1024,
    "checkpoint": "loss",
    "seeds": 1,
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Every method on batches of all tasks, beside the front of fixed weights.
    "xin2022": {
        **_XIN,
        # 530,038 steps; an epoch at 512 pairs of each target goes once through the larger corpus: 79,791.
        "epochs": 7,
        "protocol": "frontier",
        "methods": ["mgda", "gradnorm", "pcgrad", "imtl", "rlw"],
    },
    # Scalarization as the paper does it: the weights are the chances that a batch is of a task.
    "xin2022_sampling": {
        **_XIN,
        # 530,038 steps; an epoch at 1,024 pairs of one target has as many as both corpora: 65,273.
        "epochs": 8,
        "methods": [],
        "sweep": {
            "sampling": [
                {"fr": share / 10, "zh": (10 - share) / 10} for share in (5, 1, 2, 3, 4, 6, 7, 8, 9)
            ]
        },
    },
    # Few pieces and a small network: for a few thousand short sentences.
    "quick": {
        "problem_options": {
            "rows": 1000,
            "vocabulary": 120,
            "width": 64,
            "layers": 1,
            "beams": 1,
        },
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.005],
        "seeds": 3,
        "epochs": 3,
        "batch_size": 16,
    },
}


def _examined(folder: Path) -> Iterator[str]:
    seen = set()
    for path in sorted(folder.glob("*.*-*.*")):
        stem, _, pair = path.name.removesuffix(".gz").rpartition(".")[0].partition(".")
        first, _, second = pair.partition("-")
        if (stem, first, second) in seen or not second:
            continue
        seen.add((stem, first, second))
        try:
            count(files(folder, stem, first, second))
        except DataError as error:
            yield str(error)


DATASET = DataSet(
    name="translation",
    page="https://www.statmt.org/wmt19/translation-task.html",
    licence="that of each corpus",
    files={"train.*": None, "dev.*": None, "test.*": None},
    examine=_examined,
)
DATA = (DATASET,)
Files = tuple[tuple[Stamp, Stamp], ...]


def _files(split: SplitName, source: str, targets: Sequence[str]) -> Files:
    folder = DATASET.folder()
    found = (files(folder, FILES[split], source, target) for target in targets)
    return tuple((stamp(first), stamp(second)) for first, second in found)


def _key(what: str, *parts: Any) -> str:
    """A name that tells what was made from which files, as they were."""
    told = zlib.crc32(repr([_plain(part) for part in parts]).encode())
    return f"{what}-{told:08x}"


def _plain(part: Any) -> Any:
    if isinstance(part, Stamp):
        return part.path.name, part.size, part.changed
    return [_plain(each) for each in part] if isinstance(part, tuple) else part


@lru_cache(maxsize=4)
def _subwords(train: Files, vocabulary: int) -> Subwords:
    """Those of the training text of all pairs."""

    def make() -> bytes:
        both = chain.from_iterable(pairs((a.path, b.path)) for a, b in train)
        return trained(chain.from_iterable(both), vocabulary)

    folder = train[0][0].path.parent
    return Subwords(kept_model(folder, _key(f"pieces{vocabulary}", train), make))


@lru_cache(maxsize=32)
def _arrays(
    at: tuple[Stamp, Stamp],
    train: Files,
    vocabulary: int,
    rows: int | None,
    longest: int | None,
    text: bool,
) -> Arrays:
    subwords = _subwords(train, vocabulary)
    paths = at[0].path, at[1].path

    def make() -> Arrays:
        wanted = set(spread(count(paths), rows))
        kept = (pair for row, pair in enumerate(pairs(paths)) if row in wanted)
        return encoded(subwords, kept, longest, text)

    name = _key(paths[1].name, at, train, vocabulary, rows, longest, text)
    made = kept_arrays(paths[0].parent, name, make)
    if not made:
        raise DataError(
            paths[0], f"no pair has {longest} pieces or fewer", "raise the option longest"
        )
    return made


def _examples(arrays: Arrays, language: str, start: int) -> Sequences:
    """Sources end with an end; prefixes begin with the number of the language; references are bytes."""
    source, target = ragged(arrays, "source"), ragged(arrays, "target")
    inputs: list[Any] = [_with(source, END, last=True), _with(target, start, last=False)]
    wanted: dict[str, Any] = {"tokens": _with(target, END, last=True)}
    if "text" in arrays:
        wanted["text"] = ragged(arrays, "text")
        # What a translation may have at most; only examples that have it are translated.
        inputs.append(2 * source.starts.diff() + 8)
    return Sequences(tuple(inputs), {language: wanted})


def _with(rows: Ragged, token: int, last: bool) -> Ragged:
    """Rows with one more token, at the end or at the beginning."""
    number = torch.arange(len(rows) + 1)
    starts = rows.starts + number
    values = torch.full((int(starts[-1]),), token, dtype=rows.values.dtype)
    there = torch.ones(len(values), dtype=torch.bool)
    there[starts[1:] - 1 if last else starts[:-1]] = False
    values[there] = rows.values
    return Ragged(values, starts, PADDING)


def translation(
    arch: str = "hard_sharing",
    width: int = 512,
    tasks: Sequence[str] | None = None,
    source: str = "en",
    targets: Sequence[str] = ("fr", "zh"),
    layers: int = 3,
    decoders: str = "shared",
    vocabulary: int = 64_000,
    dropout: float = 0.1,
    smoothing: float = 0.1,
    beams: int = 4,
    sampling: Sampling = "together",
    rows: int | None = None,
    longest: int = 128,
) -> Problem:
    """Translate from one language into several.

    Args:
        arch: architecture, see :func:`equipoise.nn.architecture`.
        width: of the Transformer; a perceptron has four times as many, a head of attention has 64.
        tasks: some of the targets; None for all.
        source: language of all sources.
        targets: languages, a task each; a list, or names with commas between them.
        layers: of the encoder, and as many of the decoder.
        decoders: ``"shared"``: one for all languages, told by its first token which to write; ``"own"``: one
            for each.
        vocabulary: pieces of words that SentencePiece learns, for all languages together.
        dropout: of the Transformer.
        smoothing: of the labels in the loss.
        beams: of the search for translations, by which BLEU is measured; 1 is greedy, 0 does without BLEU.
        sampling: ``"together"``: a batch of every pair in each step. Weights by target
            (``{"fr": 0.3, "zh": 0.7}``), ``"proportional"`` or a temperature: a batch of one, which is drawn.
        rows: training pairs of each target at most, 10 or more; None for all.
        longest: pieces of a training sentence; pairs with a longer one are left out.

    Raises:
        DataError: a file is missing or wrong.
        ValueError: an option cannot be what was given for it.

    References:
        Xin et al., *Do Current Multi-Task Optimization Methods in Deep Learning Even Help?*, NeurIPS 2022,
        arXiv:2209.11379.
    """
    check.word("arch", arch)
    check.word("source", source)
    check.word("decoders", decoders, DECODERS)
    check.rows(rows)
    targets = check.words("targets", targets, 2)
    check.whole("beams", beams, 0)
    check.sizes(width=width, layers=layers, vocabulary=vocabulary, longest=longest)
    check.shares(dropout=dropout, smoothing=smoothing)
    draw = drawn(sampling, targets)

    def subwords() -> Subwords:
        return _subwords(_files("train", source, targets), vocabulary)

    def starts() -> dict[str, int]:
        # The languages have numbers of their own, behind those of the pieces.
        return {target: subwords().size + number for number, target in enumerate(targets)}

    def data(split: SplitName) -> PerTask:
        train = _files("train", source, targets)
        first, found = starts(), {}
        trains = split == "train"
        for target, at in zip(targets, _files(split, source, targets), strict=True):
            limits = (rows, longest) if trains else (None, None)
            text = not trains and beams > 0
            arrays = _arrays(at, train, vocabulary, *limits, text)
            found[target] = _examples(arrays, target, first[target])
        return PerTask(found, draw)

    def model(wanted: Sequence[str]) -> nn.Module:
        size = subwords().size + len(targets)
        parts: dict[str, Any] = {"width": width, "feedforward": 4 * width, "dropout": dropout}
        parts["heads"] = max(width // HEAD, 1)
        heads: dict[str, nn.Module]
        if decoders == "shared":
            trunk = encoder_decoder(size, layers=(layers, layers), padding=PADDING, **parts)
            heads = {name: nn.Identity() for name in wanted}
        else:
            trunk = transformer_encoder(size, layers=layers, padding=PADDING, **parts)
            heads = {name: Decoder(size, layers=layers, **parts) for name in wanted}
        network = architecture(arch, trunk, heads)
        first = starts()
        return Translator(network, {name: first[name] for name in wanted}, beams)

    def loss(outputs: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor:
        return smoothed(outputs, wanted, smoothing)

    return Problem(
        name="translation",
        tasks=tuple(
            Task(name=target, loss=loss, metrics=measured(target, subwords, beams))
            for target in targets
        ),
        data=data,
        model=model,
        piece=64,
        about=(
            "A sentence is translated into several languages. Each pair of languages has sentences of its "
            "own, often far more of them in one than in another."
        ),
        cite="the language pairs of WMT, as in Xin et al. (arXiv:2209.11379)",
    ).only(check.tasks(tasks))
