"""SentencePiece: trained once on the training text, kept beside the data, and text encoded once."""

from __future__ import annotations

import io
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from equipoise.problems.files import needs
from equipoise.problems.language.sequences import Ragged

# Numbers of the pieces that are no text.
PADDING, UNKNOWN, START, END = range(4)
# Sentences that a vocabulary is learned from at most, drawn at random.
SENTENCES = 4_000_000
# Sentences encoded at a time.
CHUNK = 4096
Arrays = dict[str, NDArray[Any]]


def trained(text: Iterable[str], vocabulary: int) -> bytes:
    """A unigram model of pieces of words, learned from sentences; the same ones give the same model.

    Args:
        text: sentences.
        vocabulary: number of pieces at most; little text has fewer.

    Raises:
        ImportError: sentencepiece is not installed.
        ValueError: the vocabulary has no room for the characters of the text.
    """
    library = needs("sentencepiece", "text")
    library.set_random_generator_seed(0)
    found = io.BytesIO()
    try:
        library.SentencePieceTrainer.train(
            sentence_iterator=iter(text),
            model_writer=found,
            vocab_size=vocabulary,
            hard_vocab_limit=False,
            input_sentence_size=SENTENCES,
            shuffle_input_sentence=True,
            num_threads=1,
            pad_id=PADDING,
            unk_id=UNKNOWN,
            bos_id=START,
            eos_id=END,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"no vocabulary of {vocabulary} pieces could be learned from the training text ({error}); "
            "another number of pieces may help"
        ) from None
    return found.getvalue()


class Subwords:
    """From sentences to numbers and back.

    Args:
        model: as SentencePiece writes it.
    """

    def __init__(self, model: bytes) -> None:
        self.processor: Any = needs("sentencepiece", "text").SentencePieceProcessor(
            model_proto=model, num_threads=1
        )
        self.size = int(self.processor.get_piece_size())

    def encode(self, text: Sequence[str]) -> list[list[int]]:
        """The pieces of sentences, without start and end."""
        found: list[list[int]] = self.processor.encode(list(text))
        return found

    def decode(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Sentences, up to the first end; numbers that are no pieces are left out."""
        kept = []
        for row in rows:
            end = row.index(END) if END in row else len(row)
            kept.append([piece for piece in row[:end] if END < piece < self.size])
        found: list[str] = self.processor.decode(kept)
        return found


def kept_model(folder: Path, key: str, make: Callable[[], bytes]) -> bytes:
    """What was kept under a key, or what is made now, and kept where the folder can be written to."""
    there = folder / "prepared"
    for path in sorted(there.glob(f"{key}-*.model")):
        found = path.read_bytes()
        # Its sum is in its name: what is damaged is made anew.
        if path.name == f"{key}-{zlib.crc32(found):08x}.model":
            return found
    made = make()
    part = there / f"{key}.{os.getpid()}.part"
    try:
        there.mkdir(exist_ok=True)
        part.write_bytes(made)
        part.replace(there / f"{key}-{zlib.crc32(made):08x}.model")
    except OSError:
        part.unlink(missing_ok=True)
    return made


def kept_arrays(folder: Path, key: str, make: Callable[[], Arrays]) -> Arrays:
    """Arrays kept under a key, mapped into memory; or made now, and kept where the folder allows it."""
    there = folder / "prepared" / key
    found = _arrays(there)
    if found is not None:
        return found
    made = make()
    part = there.with_name(f"{key}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        for name, array in made.items():
            np.save(part / f"{name}.npy", array)
        sums = {name: _sum(array) for name, array in made.items()}
        (part / "sums.json").write_text(json.dumps(sums), encoding="utf-8")
        shutil.rmtree(there, ignore_errors=True)
        part.rename(there)
    except OSError:
        # Cannot be written to, or another process was faster.
        shutil.rmtree(part, ignore_errors=True)
    return made


def _arrays(there: Path) -> Arrays | None:
    """Arrays that are whole; None where one is not, or there are none."""
    try:
        sums = json.loads((there / "sums.json").read_text(encoding="utf-8"))
        # Copied where written to: torch wants arrays that may be.
        found: Arrays = {name: np.load(there / f"{name}.npy", mmap_mode="c") for name in sums}
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    return found if {name: _sum(array) for name, array in found.items()} == sums else None


def _sum(array: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)


def encoded(
    subwords: Subwords, pairs: Iterable[tuple[str, str]], longest: int | None, text: bool
) -> Arrays:
    """The pieces of sentences and of their translations, rows one after the other.

    Args:
        subwords: what cuts them.
        pairs: of sentences.
        longest: pieces of either that a pair may have, or else it is left out; None: all.
        text: whether the translations are kept as they are written, too, in bytes of UTF-8.
    """
    values: dict[str, list[NDArray[Any]]] = {"source": [], "target": [], "text": []}
    sizes: dict[str, list[int]] = {"source": [], "target": [], "text": []}

    def put(name: str, row: NDArray[Any]) -> None:
        values[name].append(row)
        sizes[name].append(len(row))

    for chunk in _chunks(pairs):
        first, second = (subwords.encode(side) for side in zip(*chunk, strict=True))
        for source, target, (_, written) in zip(first, second, chunk, strict=True):
            # Text without a single known piece, such as a lone control character, is still a sentence.
            source, target = source or [UNKNOWN], target or [UNKNOWN]
            if longest is not None and max(len(source), len(target)) > longest:
                continue
            put("source", np.array(source, np.int32))
            put("target", np.array(target, np.int32))
            if text:
                put("text", np.frombuffer(written.encode("utf-8"), np.uint8))
    made: Arrays = {}
    for name, parts in values.items():
        if parts:
            made[name] = np.concatenate(parts)
            made[f"{name}_starts"] = np.cumsum([0, *sizes[name]], dtype=np.int64)
    return made


def ragged(arrays: Arrays, name: str) -> Ragged:
    """Rows of :func:`encoded`."""
    return Ragged(torch.from_numpy(arrays[name]), torch.from_numpy(arrays[f"{name}_starts"]))


def _chunks(pairs: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    chunk: list[tuple[str, str]] = []
    for pair in pairs:
        chunk.append(pair)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
