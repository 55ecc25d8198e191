"""Metrics of language problems, over a whole split and batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from equipoise.problems.tasks import Metric


class Confusion:
    """Counts how often each class was taken for each other, and scores the counts at the end.

    Args:
        classes: how many there are.
        score: of the counts ``Tensor[C, C]``, a row for each right class and a column for each given one.
    """

    def __init__(self, classes: int, score: Callable[[Tensor], float]) -> None:
        self.classes = classes
        self.score = score
        self.reset()

    def reset(self) -> None:
        """Forgets what was seen."""
        self.counts = torch.zeros(self.classes, self.classes, dtype=torch.int64)

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Sees outputs ``Tensor[N, C]`` and targets ``Tensor[N]`` of classes."""
        given = outputs.argmax(-1).flatten().cpu()
        pairs = targets.flatten().cpu() * self.classes + given
        self.counts += torch.bincount(pairs, minlength=self.classes**2).view_as(self.counts)

    def compute(self) -> float:
        """The score of all that was seen."""
        return self.score(self.counts)


def macro_f1(classes: int) -> Metric:
    r"""Mean over classes of :math:`F_1 = 2 \mathit{tp} / (2 \mathit{tp} + \mathit{fp} + \mathit{fn})`, in %.

    Classes that neither occur nor are given are left out, as scikit-learn leaves them out.
    """
    return Metric(
        name="macro F1",
        score=Confusion(classes, macro_f1_of),
        higher_is_better=True,
        unit="%",
    )


def token_accuracy(classes: int) -> Metric:
    """Share of right classes in percent, counted batch by batch; micro-averaged F1 is the same number."""

    def score(counts: Tensor) -> float:
        return 100.0 * float(counts.diagonal().sum() / counts.sum())

    return Metric(name="accuracy", score=Confusion(classes, score), higher_is_better=True, unit="%")


def macro_f1_of(counts: Tensor) -> float:
    """Macro-averaged F1 in percent, from counts ``Tensor[C, C]`` of right and given classes."""
    right = counts.diagonal().double()
    either = (counts.sum(0) + counts.sum(1)).double()
    there = either > 0
    return 100.0 * float((2.0 * right[there] / either[there]).mean())


class MeanOverTokens:
    """Mean of a number for each token, over a whole split.

    Args:
        each: from logits ``Tensor[N, V]`` and targets ``Tensor[N]`` to ``Tensor[N]``.
    """

    def __init__(self, each: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.each = each
        self.reset()

    def reset(self) -> None:
        """Forgets what was seen."""
        self.total, self.count = 0.0, 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Sees some tokens."""
        found = self.each(outputs, targets)
        self.total += float(found.double().sum())
        self.count += found.numel()

    def compute(self) -> float:
        """The mean."""
        return self.total / self.count


def bleu(hypotheses: Sequence[str], references: Sequence[str], tokenizer: str) -> float:
    """Corpus BLEU of sacreBLEU, from 0 to 100.

    Args:
        hypotheses: the translations.
        references: one for each.
        tokenizer: of sacreBLEU, such as ``"13a"``, ``"zh"`` or ``"none"``.

    Raises:
        ImportError: sacreBLEU is not installed.
    """
    from equipoise.problems.files import needs

    scorer = needs("sacrebleu.metrics", "text").BLEU(tokenize=tokenizer)
    return float(scorer.corpus_score(list(hypotheses), [list(references)]).score)
