"""Two sentences compared word by word: which words are in both, and in which order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from equipoise.nn import Trunk
from equipoise.problems.language.text import bucket
from equipoise.problems.language.words import Embedded, Neighbours

# Chinese characters and kana are words of their own; so is what is neither a letter nor a space.
_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+|[^\w\s]|_")
# Where a word went from one sentence to the other, in words, as far as it is told apart.
FURTHEST = 4
NUMBERS = 19
# Few, since a training set of two thousand pairs is soon known by its words.
BUCKETS = 1 << 11


def split(sentence: str) -> list[str]:
    """The words of a sentence, in small letters."""
    return _WORD.findall(sentence.lower())


def told(words: Sequence[str], other: Sequence[str]) -> list[list[int]]:
    """Of each word of a sentence, the buckets of the word and of :func:`moves`."""
    marks = moves(words, other)
    return [[bucket(word, BUCKETS), mark] for word, mark in zip(words, marks, strict=True)]


def moves(words: Sequence[str], other: Sequence[str]) -> list[int]:
    """Of each word, a bucket that tells whether the other sentence has it, and whether it was moved.

    A word that both have once is compared with the last such word before it: how many words it comes later
    or earlier in the other sentence than if nothing had been moved.
    """
    counts, others = Counter(words), Counter(other)
    place = {word: at for at, word in enumerate(other)}
    found = []
    before = -1, -1
    for at, word in enumerate(words):
        if word not in others:
            mark = "absent"
        elif counts[word] > 1 or others[word] > 1:
            mark = "often"
        else:
            step = (place[word] - before[1]) - (at - before[0])
            mark = str(max(-FURTHEST, min(FURTHEST, step)))
            before = at, place[word]
        found.append(bucket(f" {mark}", BUCKETS))
    return found


def numbers(first: Sequence[str], second: Sequence[str]) -> list[float]:
    """What is alike and what was moved, as 19 numbers of about the size of one."""
    length, other = max(len(first), 1), max(len(second), 1)
    longest = max(length, other)
    counts, others = Counter(first), Counter(second)
    both = (counts & others).total()
    found = [length / 32, other / 32, abs(length - other) / 8]
    found += [both / longest, both / min(length, other), (length - both) / 8, (other - both) / 8]
    for size in (2, 3, 4):
        grams, more = (
            Counter(zip(*(words[at:] for at in range(size)), strict=False))
            for words in (first, second)
        )
        found.append((grams & more).total() / max(longest - size + 1, 1))
    # Words that both have once, in the order of the first: where they are in the second.
    place = {word: at for at, word in enumerate(second)}
    order = [place[word] for word in first if counts[word] == 1 and others[word] == 1]
    pairs = len(order) * (len(order) - 1) / 2
    turned = sum(a > b for at, a in enumerate(order) for b in order[at + 1 :])
    steps = list(pairwise(order))
    rank = {at: number for number, at in enumerate(sorted(order))}
    found += [turned / 16, turned / max(pairs, 1), len(order) / longest]
    found += [sum(b != a + 1 for a, b in steps) / 8, sum(b < a for a, b in steps) / 4]
    found.append(sum(abs(rank[at] - number) for number, at in enumerate(order)) / 32)
    found += [float(first[:1] == second[:1]), float(first[-2:] == second[-2:])]
    found.append(order[0] / 32 if order else -1.0)
    return found


class Compared(nn.Module):
    """Both sentences through one network of convolutions, and what differs between them.

    Args:
        width: of the features.
        dropout: share of inputs that are left out in training.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.words = nn.Sequential(
            Embedded(BUCKETS, width), Neighbours(width, dropout=dropout), Neighbours(width)
        )
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(4 * width + NUMBERS, width)

    def forward(self, inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """From features of words ``Tensor[B, T, F]``, twice, and numbers ``Tensor[B, 19]``."""
        first, second = (self._pooled(words) for words in inputs[:2])
        differ = torch.cat([(first - second).abs(), first * second], 1)
        found: Tensor = self.out(torch.cat([self.drop(differ), inputs[2]], 1))
        return nn.functional.gelu(found)

    def _pooled(self, words: Tensor) -> Tensor:
        """Mean and largest of the words that are there, ``Tensor[B, 2 W]``."""
        read = self.words(words)
        there = words[..., :1] != 0
        mean = read.sum(1) / there.sum(1).clamp_min(1)
        largest = read.masked_fill(~there, -torch.inf).amax(1)
        return torch.cat([mean, largest], 1)


class Perceptron(nn.Module):
    """A hidden layer, added to what was there.

    Args:
        width: of the features.
        dropout: share of inputs that are left out in training.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout)
        )

    def forward(self, features: Tensor) -> Tensor:
        """From ``Tensor[B, W]`` to the same."""
        added: Tensor = self.body(features)
        return features + added


def comparing(width: int, dropout: float = 0.2) -> Trunk:
    """A small network over two sentences, to ``Tensor[B, width]``."""
    return Trunk(lambda: [Compared(width, dropout), Perceptron(width, dropout)], (width, width))
