"""MultiFashion: two pieces of clothing on one canvas."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.problems.base import Problem
from equipoise.problems.files.idx import FASHION_MNIST
from equipoise.problems.vision import lenet_studies
from equipoise.problems.vision.overlaid import CANVAS, overlaid

DATA = (FASHION_MNIST,)
PRESETS = lenet_studies.PRESETS


def multifashion(
    arch: str = "hard_sharing",
    width: int = 10,
    tasks: Sequence[str] | None = None,
    size: int = CANVAS,
    dropout: float = 0.0,
    validation: float = 0.2,
    rows: int | None = None,
) -> Problem:
    """Name both of two overlapping pieces of clothing.

    Args:
        arch: the architecture; see :func:`equipoise.nn.architecture`.
        width: of LeNet; at 10 it has the 10 and 20 channels and 50 features of the papers.
        tasks: ``"top_left"`` and ``"bottom_right"``; None for both.
        size: 36, or the rows and columns that canvases are resized to, such as 28.
        dropout: behind the second convolution and between the two layers of a task.
        validation: share of the official training images.
        rows: of each split at most; None for all.

    Raises:
        ValueError: an option makes no sense.

    References:
        Lin et al., *Pareto Multi-Task Learning*, NeurIPS 2019, arXiv:1912.12854; Xiao et al.,
        *Fashion-MNIST*, 2017, arXiv:1708.07747.
    """
    return overlaid(
        "multifashion",
        about=(
            "Two pieces of clothing of Fashion-MNIST overlap on one canvas. Name the one in the upper left "
            "corner, and the one in the lower right."
        ),
        cite="Fashion-MNIST, paired as in Lin et al. (arXiv:1912.12854)",
        arch=arch,
        width=width,
        tasks=tasks,
        size=size,
        dropout=dropout,
        validation=validation,
        rows=rows,
    )
