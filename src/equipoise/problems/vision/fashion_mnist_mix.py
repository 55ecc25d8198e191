"""A handwritten digit and a piece of clothing on one canvas."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.problems.base import Problem
from equipoise.problems.files.idx import FASHION_MNIST, MNIST
from equipoise.problems.vision import lenet_studies
from equipoise.problems.vision.overlaid import CANVAS, overlaid

DATA = (FASHION_MNIST, MNIST)
PRESETS = lenet_studies.PRESETS


def fashion_mnist_mix(
    arch: str = "hard_sharing",
    width: int = 10,
    tasks: Sequence[str] | None = None,
    size: int = CANVAS,
    dropout: float = 0.0,
    validation: float = 0.2,
    rows: int | None = None,
) -> Problem:
    """Name a handwritten digit and the piece of clothing that it overlaps with.

    Args:
        arch: the architecture; see :func:`equipoise.nn.architecture`.
        width: of LeNet; at 10 it has the 10 and 20 channels and 50 features of the papers.
        tasks: ``"digit"`` and ``"item"``; None for both.
        size: 36, or the rows and columns that canvases are resized to, such as 28.
        dropout: behind the second convolution and between the two layers of a task.
        validation: share of the official training images.
        rows: of each split at most; None for all.

    Raises:
        ValueError: an option makes no sense.

    References:
        Lin et al., *Pareto Multi-Task Learning*, NeurIPS 2019, arXiv:1912.12854, where the two data
        sets are overlaid in this way.
    """
    return overlaid(
        "fashion_mnist_mix",
        about=(
            "A handwritten digit of MNIST overlaps with a piece of clothing of Fashion-MNIST. Name both; the "
            "second is the harder one."
        ),
        cite="MNIST and Fashion-MNIST, paired as in Lin et al. (arXiv:1912.12854)",
        arch=arch,
        width=width,
        tasks=tasks,
        size=size,
        dropout=dropout,
        validation=validation,
        rows=rows,
    )
