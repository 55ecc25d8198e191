"""The transformers of language problems, with weights from a folder or from scratch."""

from __future__ import annotations

from functools import lru_cache

from equipoise.nn import Trunk
from equipoise.problems.language.pieces import Pieces, hashed, of_folder, weights_folder

NETWORKS = ("small", "bert")
VOCABULARY = 8192


@lru_cache(maxsize=4)
def pieces_of(weights: str) -> Pieces:
    """The pieces of the folder of weights; hashed ones where there is none."""
    return of_folder(weights_folder(weights)) if weights else hashed(VOCABULARY)


def bert(width: int, weights: str) -> Trunk:
    raise NotImplementedError
