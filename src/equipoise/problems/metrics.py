"""Metrics with a direction and a unit."""

from __future__ import annotations

from torch import Tensor

from equipoise.problems.base import Metric


def accuracy() -> Metric:
    """Share of right classes in percent: outputs ``Tensor[N, C]``, targets ``Tensor[N]`` of classes."""

    def score(outputs: Tensor, targets: Tensor) -> float:
        return 100.0 * float((outputs.argmax(-1) == targets).double().mean())

    return Metric(name="accuracy", score=score, higher_is_better=True, unit="%")


def rmse() -> Metric:
    """Root of the mean squared error over every entry: outputs and targets ``Tensor[N, ...]``."""

    def score(outputs: Tensor, targets: Tensor) -> float:
        return float((outputs.double() - targets.double()).square().mean().sqrt())

    return Metric(name="rmse", score=score, higher_is_better=False)


def mean_absolute_error(unit: str = "") -> Metric:
    """Mean absolute error over every entry: outputs and targets ``Tensor[N, ...]``."""

    def score(outputs: Tensor, targets: Tensor) -> float:
        return float((outputs.double() - targets.double()).abs().mean())

    return Metric(name="mae", score=score, higher_is_better=False, unit=unit)
