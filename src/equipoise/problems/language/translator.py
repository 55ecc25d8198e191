"""What a translation network gives, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.nn.backbones.decoding import translate
from equipoise.problems.language.metrics import MeanOverTokens, bleu
from equipoise.problems.language.subwords import END, PADDING, Subwords
from equipoise.problems.tasks import Metric

# How sacreBLEU cuts languages without spaces; the others by its default.
TOKENIZERS: Mapping[str, str] = {"zh": "zh", "ja": "char", "ko": "char", "th": "char"}


class Translator(nn.Module):
    """Logits, and translations of examples that say how long these may be.

    Args:
        network: maps source and prefix to logits by task.
        starts: by task, the first token of a translation.
        beams: of the search.
    """

    def __init__(self, network: nn.Module, starts: Mapping[str, int], beams: int) -> None:
        super().__init__()
        self.network = network
        self.starts = dict(starts)
        self.beams = beams

    def forward(
        self, inputs: tuple[Tensor, ...], share: Any = None, tasks: Sequence[str] | None = None
    ) -> dict[str, dict[str, Tensor]]:
        """Outputs by task.

        Args:
            inputs: pieces of sources ``Tensor[B, S]`` and of prefixes ``Tensor[B, T]``; and, where
                translations are wanted, how long each may be, ``Tensor[B]``.
            share: as the network takes it.
            tasks: whose outputs are wanted; None for all.

        Returns:
            By task ``"logits"``, ``Tensor[B, T, V]``, and ``"written"``, pieces ``Tensor[B, U]``.
        """
        source, prefix, *limit = inputs
        logits = self.network((source, prefix), share=share, tasks=tasks)
        found = {name: {"logits": each} for name, each in logits.items()}
        if limit and self.beams and not torch.is_grad_enabled():
            for name, outputs in found.items():
                longest = int(limit[0].max())
                outputs["written"] = translate(
                    self.network, name, source, self.starts[name], END, longest, self.beams
                )
        return found


def smoothed(
    outputs: Mapping[str, Tensor], wanted: Mapping[str, Tensor], smoothing: float
) -> Tensor:
    """Cross-entropy over the tokens of a batch, with labels smoothed."""
    return functional.cross_entropy(
        outputs["logits"].flatten(0, 1),
        wanted["tokens"].flatten(),
        ignore_index=PADDING,
        label_smoothing=smoothing,
    )


def _entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    return functional.cross_entropy(logits, tokens, reduction="none")


def _wrong(logits: Tensor, tokens: Tensor) -> Tensor:
    return 100.0 * (logits.argmax(-1) != tokens)


class OverTokens(MeanOverTokens):
    """A mean over the tokens of translations, without padding."""

    def update(self, outputs: Any, targets: Any) -> None:
        """Sees logits ``Tensor[B, T, V]`` and tokens ``Tensor[B, T]`` of a batch."""
        there = targets["tokens"] != PADDING
        super().update(outputs["logits"][there], targets["tokens"][there])


class Bleu:
    """Corpus BLEU of translations against what was written by people.

    Args:
        subwords: gives what turns pieces into text.
        tokenizer: of sacreBLEU.
    """

    def __init__(self, subwords: Callable[[], Subwords], tokenizer: str) -> None:
        self.subwords = subwords
        self.tokenizer = tokenizer
        self.reset()

    def reset(self) -> None:
        """Forgets what was seen."""
        self.hypotheses: list[str] = []
        self.references: list[str] = []

    def update(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> None:
        """Sees translations of a batch, and the bytes of their references."""
        self.hypotheses += self.subwords().decode(outputs["written"].tolist())
        self.references += [
            bytes(byte for byte in row if byte).decode("utf-8") for row in targets["text"].tolist()
        ]

    def compute(self) -> float:
        """BLEU of all that was seen."""
        return bleu(self.hypotheses, self.references, self.tokenizer)


def measured(language: str, subwords: Callable[[], Subwords], beams: int) -> tuple[Metric, ...]:
    """Cross-entropy without smoothing, wrong tokens in percent and, where there are beams, BLEU."""
    found = [
        Metric(name="cross-entropy", score=OverTokens(_entropy), higher_is_better=False),
        Metric(name="token error", score=OverTokens(_wrong), higher_is_better=False, unit="%"),
    ]
    if beams:
        own = Bleu(subwords, TOKENIZERS.get(language, "13a"))
        found.append(Metric(name="BLEU", score=own, higher_is_better=True))
    return tuple(found)
