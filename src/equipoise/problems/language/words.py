"""Words as a handful of hashed features each: the word, its beginnings and ends, its shape."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from equipoise.nn import Trunk
from equipoise.problems.language.text import bucket

BUCKETS = 1 << 13
# The word, in small letters, three beginnings, four ends, its shape.
FEATURES = 10


def features(word: str, buckets: int = BUCKETS) -> list[int]:
    """The buckets of a word's features, from 1; 0 is for padding."""
    small = word.lower()
    named = [f"w{word}", f"l{small}", f"x{shape(word)}"]
    named += [f"p{n}{small[:n]}" for n in (1, 2, 3)]
    named += [f"s{n}{small[-n:]}" for n in (1, 2, 3, 4)]
    return [bucket(name, buckets) for name in named]


def shape(word: str) -> str:
    """The classes of Unicode of a word's characters, in short: ``"2.5%"`` is ``"Nd Po Nd Po"``."""
    return " ".join(kind for kind, _ in groupby(map(unicodedata.category, word)))


def table(words: Iterable[str], buckets: int = BUCKETS) -> dict[str, list[int]]:
    """The features of each different word."""
    return {word: features(word, buckets) for word in dict.fromkeys(words)}


class Embedded(nn.Module):
    """The sum of the embeddings of a word's features; a row of zeros for padding.

    Args:
        buckets: of the features.
        width: of the embedding.
    """

    def __init__(self, buckets: int, width: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(buckets, width, mode="sum", padding_idx=0)
        nn.init.normal_(self.table.weight, std=0.1)
        with torch.no_grad():
            self.table.weight[0] = 0

    def forward(self, words: Tensor) -> Tensor:
        """From features ``Tensor[B, T, F]`` to embeddings ``Tensor[B, T, W]``."""
        flat: Tensor = self.table(words.flatten(0, 1))
        return flat.view(*words.shape[:2], -1)


class Neighbours(nn.Module):
    """A convolution over a word and its neighbours, added to what was there.

    Padding is a row of zeros, and stays one: so a sentence has the same outputs in every batch.

    Args:
        width: of the embedding.
        reach: words to either side.
        dropout: share of inputs that are left out in training.
    """

    def __init__(self, width: int, reach: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)
        self.mix = nn.Conv1d(width, width, 2 * reach + 1, padding=reach)

    def forward(self, words: Tensor) -> Tensor:
        """From ``Tensor[B, T, W]`` to ``Tensor[B, T, W]``."""
        there = words.ne(0).any(-1, keepdim=True)
        normed = self.drop(self.norm(words)) * there
        mixed = self.mix(normed.transpose(1, 2)).transpose(1, 2)
        return (words + nn.functional.gelu(mixed)) * there


def convolutional(
    width: int, layers: int = 2, dropout: float = 0.2, buckets: int = BUCKETS
) -> Trunk:
    """A small network over the words of a sentence, from ``Tensor[B, T, F]`` to ``Tensor[B, T, width]``."""

    def stages() -> Sequence[nn.Module]:
        return [
            Embedded(buckets, width),
            *(Neighbours(width, dropout=dropout) for _ in range(layers)),
        ]

    return Trunk(stages, (width,) * (layers + 1))
