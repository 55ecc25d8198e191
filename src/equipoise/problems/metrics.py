"""Metrics with a direction and a unit."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

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


def mean_absolute_error(unit: str = "", scale: float = 1.0) -> Metric:
    """Mean absolute error over every entry: outputs and targets ``Tensor[N, ...]``.

    Args:
        unit: shown behind the number.
        scale: of the targets in that unit: the standard deviation they were divided by, where they were.
    """

    def score(outputs: Tensor, targets: Tensor) -> float:
        return scale * float((_alike(outputs, targets).double() - targets.double()).abs().mean())

    return Metric(name="mae", score=score, higher_is_better=False, unit=unit)


def roc_auc() -> Metric:
    """Area under the ROC curve: scores ``Tensor[N, ...]`` (logits will do), targets 0 and 1 of that shape.

    0.5 has learned nothing, 1 ranks every positive before every negative.
    """

    def score(outputs: Tensor, targets: Tensor) -> float:
        # Imported here: it takes a second, and few problems rank.
        from sklearn.metrics import roc_auc_score

        return float(roc_auc_score(*_ranked(outputs, targets)))

    return Metric(name="roc_auc", score=score, higher_is_better=True)


def average_precision() -> Metric:
    """Area under the precision-recall curve: scores ``Tensor[N, ...]``, targets 0 and 1 of that shape.

    The share of positives has learned nothing. Where these are rare it tells more than :func:`roc_auc`.
    """

    def score(outputs: Tensor, targets: Tensor) -> float:
        from sklearn.metrics import average_precision_score

        return float(average_precision_score(*_ranked(outputs, targets)))

    return Metric(name="average_precision", score=score, higher_is_better=True)


def relative_rmse(mean: float = 0.0) -> Metric:
    r"""Root mean squared error relative to that of a constant; 1 has learned nothing.

    .. math:: \sqrt{\frac{\sum_n (y_n - f_n)^2}{\sum_n (y_n - c)^2}}

    over outputs f and targets y ``Tensor[N, ...]``.

    Args:
        mean: the constant c: the mean of the targets in training, 0 where they are standardised by it.
    """

    def score(outputs: Tensor, targets: Tensor) -> float:
        return _relative_rmse(outputs, targets, mean)

    return Metric(name="rrmse", score=score, higher_is_better=False)


def average_relative_rmse(mean: float = 0.0) -> Metric:
    """The mean of :func:`relative_rmse` over tasks, a metric of a whole problem.

    Args:
        mean: see there.
    """

    def score(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> float:
        return fmean(_relative_rmse(outputs[name], y, mean) for name, y in targets.items())

    return Metric(name="arrmse", score=score, higher_is_better=False)


def _relative_rmse(outputs: Tensor, targets: Tensor, mean: float) -> float:
    there = ~targets.isnan()
    y, f = targets[there].double(), _alike(outputs, targets)[there].double()
    constant = float((y - mean).square().sum())
    if not constant > 0:
        raise ValueError(
            f"all {y.numel()} targets of the split are {mean:g}, the constant that errors are compared with; "
            "take another split, or leave the task out"
        )
    return float(((f - y).square().sum() / constant).sqrt())


def _ranked(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Targets and scores, as scikit-learn takes them."""
    y, scores = targets.reshape(-1), _alike(outputs, targets).reshape(-1)
    found = sorted(set(y.tolist()))
    if not set(found) <= {0, 1}:
        raise ValueError(f"the targets are not 0 and 1 alone: {found[:4]}")
    if len(found) < 2:
        raise ValueError(
            f"all {y.numel()} labels of the split are {found[0]:g}, and a ranking needs both classes; take "
            "more rows or another split, or leave the task out"
        )
    if not bool(scores.isfinite().all()):
        raise ValueError("a score is not finite")
    return y.cpu(), scores.float().cpu()


def _alike(outputs: Tensor, targets: Tensor) -> Tensor:
    """The outputs; where shapes differ, torch would spread one over the other without a word."""
    if outputs.shape != targets.shape:
        raise ValueError(f"{shapes(outputs)} cannot be compared with targets {shapes(targets)}")
    return outputs
