"""The transformers of language problems, with weights from a folder or from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch

from equipoise.nn import Trunk
from equipoise.nn.backbones.transformer import bert
from equipoise.problems.language.pieces import Pieces, hashed, of_folder, weights_folder
from equipoise.problems.language.sequences import Ragged

NETWORKS = ("small", "bert")
# Pieces in a row at most, as in XTREME.
LONGEST = 128
# Of the transformer from scratch.
VOCABULARY = 8192
LAYERS = 2
HEAD = 32


def refuse(network: str) -> None:
    """Refuses a network that is not known.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(network, str) or network not in NETWORKS:
        raise ValueError(f"there is no network {network!r}; known: {', '.join(NETWORKS)}")


@lru_cache(maxsize=4)
def pieces_of(weights: str) -> Pieces:
    """The pieces of the folder of weights; hashed ones where there is none."""
    return of_folder(weights_folder(weights)) if weights else hashed(VOCABULARY)


def transformer(width: int, weights: str, read: Literal["tokens", "pooler"]) -> Trunk:
    """A BERT: that of a folder of weights, or a small one from scratch.

    Args:
        width: of the one from scratch.
        weights: folder; empty for none.
        read: hidden states of all pieces, or the vector of the first.

    Raises:
        DataError: there is no such folder.
        ValueError: it does not hold the weights of a BERT, or the width is no multiple of 32.
        ImportError: transformers is not installed.
    """
    if weights:
        return bert(weights=weights_folder(weights), read=read)
    return bert(
        width=width,
        layers=LAYERS,
        heads=max(width // HEAD, 1),
        vocabulary=VOCABULARY,
        positions=LONGEST,
        read=read,
    )


def as_inputs(
    rows: Sequence[Sequence[int]], pad: int, types: Sequence[Sequence[int]] | None = None
) -> tuple[Ragged, ...]:
    """Rows of pieces as the transformer takes them: pieces, which are there, and of which sentence."""
    ids = Ragged.of(rows, pad)
    there = Ragged(torch.ones_like(ids.values), ids.starts)
    return (ids, there) if types is None else (ids, there, Ragged.of(types))
