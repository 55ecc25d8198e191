"""Pieces of words, as a transformer takes them: from a folder with a tokenizer, or hashed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.problems.files import DataError, needs
from equipoise.problems.files.data_set import PLACE
from equipoise.problems.language.text import bucket

# Characters of a hashed piece.
CHUNK = 4


@dataclass(frozen=True)
class Pieces:
    """What turns words into numbers.

    Attributes:
        size: how many pieces there are.
        pad: fills up shorter rows.
        start: begins a row.
        end: ends a sentence.
        unknown: stands for a word of which nothing is known.
        cut: from words to the pieces of each.
    """

    size: int
    pad: int
    start: int
    end: int
    unknown: int
    cut: Callable[[Sequence[str]], list[list[int]]]

    def of(self, words: Iterable[str]) -> dict[str, list[int]]:
        """The pieces of each different word, at least one."""
        forms = list(dict.fromkeys(words))
        found = self.cut(forms) if forms else []
        return {form: pieces or [self.unknown] for form, pieces in zip(forms, found, strict=True)}


def hashed(size: int) -> Pieces:
    """Pieces of four characters, hashed: nothing to learn and nothing to load.

    Args:
        size: how many there are.

    Raises:
        ValueError: fewer than 16.
    """
    if size < 16:
        raise ValueError(f"a vocabulary needs 16 pieces or more; got {size}")

    def cut(words: Sequence[str]) -> list[list[int]]:
        return [
            [
                3 + bucket(f"{bool(at)}{word[at : at + CHUNK]}", size - 3)
                for at in range(0, len(word), CHUNK)
            ]
            for word in words
        ]

    return Pieces(size=size, pad=0, start=1, end=2, unknown=3, cut=cut)


def of_folder(folder: Path) -> Pieces:
    """Those of the tokenizer that lies beside the weights of a network.

    Raises:
        DataError: there is none that can be read.
        ImportError: transformers is not installed.
    """
    tokenizer: Any
    try:
        tokenizer = needs("transformers", "text").AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            folder, f"there is no tokenizer that can be read ({error})", "fetch the folder anew"
        ) from None

    def cut(words: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = tokenizer(list(words), add_special_tokens=False)["input_ids"]
        return found

    def number(*names: str) -> int:
        for name in names:
            found = getattr(tokenizer, f"{name}_token_id", None)
            if found is not None:
                return int(found)
        raise DataError(
            folder, f"its tokenizer has no {names[0]} token", "use the tokenizer of a BERT"
        )

    return Pieces(
        size=len(tokenizer),
        pad=number("pad"),
        start=number("cls", "bos"),
        end=number("sep", "eos"),
        unknown=number("unk"),
        cut=cut,
    )


def weights_folder(name: str) -> Path:
    """Where the weights of a network lie: a folder, or one in the place of all data.

    Raises:
        DataError: there is none.
    """
    place = os.environ.get(PLACE, "")
    tried = [Path(name).expanduser()]
    if place:
        tried.append(Path(place).expanduser() / name)
    for folder in tried:
        if folder.is_dir():
            return folder
    raise DataError(
        tried[-1],
        "there is no such folder of weights",
        "get config.json, weights and tokenizer, for instance from "
        f"https://huggingface.co/google-bert/{Path(name).name}; name the folder by the option weights, or "
        f"put it into the folder that {PLACE} names; without weights a small network learns from scratch",
    )
