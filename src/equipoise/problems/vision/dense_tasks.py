"""Tasks with an answer at every pixel: how many channels each has, and how it is moved with its image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from equipoise.problems.tasks import Metric, Task
from equipoise.problems.vision.dense import (
    Binary,
    balanced_binary,
    cross_entropy,
    depth_metrics,
    masked_cosine,
    masked_l1,
    normal_metrics,
    segmentation_metrics,
    unlabelled,
    without_depth,
)

Kind = Literal["classes", "depth", "inverse_depth", "normals", "binary"]


@dataclass(frozen=True)
class Answer:
    """What is told of every pixel.

    Attributes:
        kind: what the numbers are.
        task: its loss and metrics.
        channels: of the network's output.
    """

    kind: Kind
    task: Task
    channels: int

    @property
    def name(self) -> str:
        """That of the task."""
        return self.task.name


def classes(name: str, count: int) -> Answer:
    """A class of ``count``, or -1: targets ``Tensor[B, H, W]``, outputs ``Tensor[B, count, H, W]``."""
    task = Task(
        name=name, loss=cross_entropy, metrics=segmentation_metrics(count), missing=unlabelled
    )
    return Answer("classes", task, count)


def depth(name: str = "depth", inverse: bool = False) -> Answer:
    """A depth or its inverse, 0 where there is none: both ``Tensor[B, 1, H, W]``."""
    task = Task(name=name, loss=masked_l1, metrics=depth_metrics(), missing=without_depth)
    return Answer("inverse_depth" if inverse else "depth", task, 1)


def normals(name: str = "normals") -> Answer:
    """A normal in the camera's frame, zero where there is none: both ``Tensor[B, 3, H, W]``."""
    task = Task(name=name, loss=masked_cosine, metrics=normal_metrics(), missing=without_depth)
    return Answer("normals", task, 3)


def binary(name: str, first: str, positive: float | None = None, square: float = 1.0) -> Answer:
    """On or off, -1 where neither is known: both ``Tensor[B, 1, H, W]``.

    Args:
        name: of the task.
        first: the metric that comes first, ``"f"`` or ``"iou"``.
        positive: weight of what is on, see :func:`~equipoise.problems.vision.dense.balanced_binary`.
        square: of beta in F.
    """
    metrics = [
        Metric(name="max_f", score=Binary("f", square), higher_is_better=True, unit="%"),
        Metric(name="iou", score=Binary("iou"), higher_is_better=True, unit="%"),
    ]
    ordered = tuple(metrics if first == "f" else metrics[::-1])

    task = Task(name=name, loss=balanced_binary(positive), metrics=ordered, missing=unlabelled)
    return Answer("binary", task, 1)
