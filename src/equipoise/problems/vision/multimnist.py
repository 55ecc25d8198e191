"""MultiMNIST: two handwritten digits on one canvas."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.problems.base import Problem
from equipoise.problems.files.idx import MNIST
from equipoise.problems.vision import lenet_studies
from equipoise.problems.vision.overlaid import CANVAS, overlaid

DATA = (MNIST,)
PRESETS = lenet_studies.PRESETS


def multimnist(
    arch: str = "hard_sharing",
    width: int = 10,
    tasks: Sequence[str] | None = None,
    size: int = CANVAS,
    dropout: float = 0.0,
    validation: float = 0.2,
    rows: int | None = None,
) -> Problem:
    """Name both of two overlapping handwritten digits.

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
        Sener and Koltun, *Multi-Task Learning as Multi-Objective Optimization*, NeurIPS 2018,
        arXiv:1810.04650, after Sabour et al., *Dynamic Routing Between Capsules*, NeurIPS 2017,
        arXiv:1710.09829; Kurin et al., *In Defense of the Unitary Scalarization*, NeurIPS 2022,
        arXiv:2201.04122.
    """
    return overlaid(
        "multimnist",
        about=(
            "Two handwritten digits of MNIST overlap on one canvas. Name the one in the upper left "
            "corner, and the one in the lower right."
        ),
        cite="MNIST, paired as in Sener and Koltun (arXiv:1810.04650)",
        arch=arch,
        width=width,
        tasks=tasks,
        size=size,
        dropout=dropout,
        validation=validation,
        rows=rows,
    )
