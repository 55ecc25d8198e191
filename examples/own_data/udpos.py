"""Parts of speech in two languages (Universal Dependencies): each task has sentences of its own, padded.

equipoise run udpos.toml          # or, from Python, the same: python udpos.py
"""

import gzip
import os
from functools import lru_cache
from itertools import groupby, islice
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from equipoise.problems import Loader, PerTask, Problem, Task, TrunkAndHeads, accuracy
from equipoise.study import compare

TAGS = "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X"
NUMBER = {tag: number for number, tag in enumerate(TAGS.split())}
FILES = {"train": "train", "validation": "dev", "test": "test"}
# Stands for no word among the inputs, and for no label among the targets.
PAD, NO_TAG = 0, -1
BUCKETS = 4096


class Tagger(nn.Module):
    """A word is the sum of its own embedding and that of its ending; a convolution sees its neighbours."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pieces = nn.EmbeddingBag(BUCKETS, width, mode="sum", padding_idx=PAD)
        self.around = nn.Conv1d(width, width, kernel_size=3, padding=1)

    def forward(self, words: Tensor) -> Tensor:
        """Features of words ``[B, T, 2]``: ``[B, T, width]``."""
        sentences, length, pieces = words.shape
        z = self.pieces(words.reshape(-1, pieces)).reshape(sentences, length, -1)
        return self.around(z.transpose(1, 2)).relu().transpose(1, 2)


@lru_cache(maxsize=8)
def sentences(file: Path, rows: int) -> list[tuple[Tensor, Tensor]]:
    """Pieces of words ``[T, 2]`` and tags ``[T]`` of each sentence."""
    if not file.is_file():
        raise ValueError(f"there is no {file}; give root=, or set EQUIPOISE_DATA to the folder")
    found = []
    with gzip.open(file, "rt", encoding="utf-8") as text:
        blocks = (list(lines) for empty, lines in groupby(text, lambda s: s == "\n") if not empty)
        for lines in islice(blocks, rows or None):
            pairs = [line.rstrip("\n").rsplit("\t", 1) for line in lines]
            words = [[_bucket(w.lower()), _bucket("-" + w[-2:])] for w, _ in pairs]
            found.append((torch.tensor(words), torch.tensor([NUMBER[tag] for _, tag in pairs])))
    return found


def _bucket(piece: str) -> int:
    return 1 + crc32(piece.encode()) % (BUCKETS - 1)


def udpos(
    root: str = "", rows: int = 0, languages: tuple[str, ...] = ("en", "id"), width: int = 48
) -> Problem:
    """One task a language; the embeddings and the convolution are shared.

    Args:
        root: folder that holds ``udpos``; default: the environment variable EQUIPOISE_DATA.
        rows: the first sentences of each file only, for speed; 0 for all.
        languages: of en, id, ja, te, vi, zh.
        width: of the layers.
    """
    folder = Path(root or os.environ.get("EQUIPOISE_DATA", "")) / "udpos"

    def loader(language: str, split: str) -> Loader:
        def padded(batch):
            words, tags = zip(*batch, strict=True)
            words = pad_sequence(words, batch_first=True, padding_value=PAD)
            return words, {language: pad_sequence(tags, batch_first=True, padding_value=NO_TAG)}

        own = sentences(folder / f"{language}-{FILES[split]}.tsv.gz", rows)
        return Loader.over(own, collate_fn=padded)

    return Problem(
        name="udpos",
        tasks=tuple(
            Task(
                name=language,
                loss=functional.cross_entropy,
                metrics=(accuracy(),),
                missing=NO_TAG,
            )
            for language in languages
        ),
        data=lambda split: PerTask({name: loader(name, split) for name in languages}),
        model=lambda tasks: TrunkAndHeads(
            Tagger(width), {task: nn.Linear(width, len(NUMBER)) for task in tasks}
        ),
        about="Accuracy counts tokens.",
        cite="Universal Dependencies (EWT, GSD), CC BY-SA 4.0, as in XTREME (arXiv:2003.11080)",
    )


if __name__ == "__main__":
    print(
        compare(
            udpos,
            ["uw", "cagrad"],
            problem_options={"rows": 600},
            learning_rates=[0.01, 0.03, 0.1],
            epochs=3,
            batch_size=32,
            seeds=5,
        )
    )
