"""Metrics with a direction and a unit."""

from __future__ import annotations

from torch import Tensor

from equipoise.problems.nesting import shapes
from equipoise.problems.tasks import Metric


def accuracy() -> Metric:
    """Share of right classes in percent: outputs ``Tensor[N, C]``, targets ``Tensor[N]`` of classes."""

    def score(outputs: Tensor, targets: Tensor) -> float:
        classes = _alike(outputs.argmax(-1), targets)
        return 100.0 * float((classes == targets).double().mean())

    return Metric(name="accuracy", score=score, higher_is_better=True, unit="%")


def rmse() -> Metric:
    """Root of the mean squared error over every entry: outputs and targets ``Tensor[N, ...]``."""

    def score(outputs: Tensor, targets: Tensor) -> float:
        return float((_alike(outputs, targets).double() - targets.double()).square().mean().sqrt())

    return Metric(name="rmse", score=score, higher_is_better=False)


def mean_absolute_error(unit: str = "") -> Metric:
    """Mean absolute error over every entry: outputs and targets ``Tensor[N, ...]``."""

    def score(outputs: Tensor, targets: Tensor) -> float:
        return float((_alike(outputs, targets).double() - targets.double()).abs().mean())

    return Metric(name="mae", score=score, higher_is_better=False, unit=unit)


def _alike(outputs: Tensor, targets: Tensor) -> Tensor:
    """The outputs; where shapes differ, torch would spread one over the other without a word."""
    if outputs.shape != targets.shape:
        raise ValueError(f"{shapes(outputs)} cannot be compared with targets {shapes(targets)}")
    return outputs
