"""The statistics of a comparison, as functions on arrays.

Letters of the shapes: A arms, S seeds (runs), M metrics of all tasks, T tasks, B bootstrap draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, and the number of runs behind it."""

    value: float
    low: float
    high: float
    runs: int


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference: the estimate, the p value of the test, its correction, pairs won."""

    p: float
    p_holm: float
    wins: int

    def shown(self, level: float = 0.05) -> bool:
        """Whether a difference was shown at this level after correction."""
        return self.p_holm < level


def relative_change(scores: Array, reference: Array, higher_is_better: NDArray[np.bool_]) -> Array:
    r"""Change against a reference in percent of it, positive where better.

    .. math:: 100 \, s_m (x_m - r_m) / |r_m|, \quad s_m = \pm 1

    Args:
        scores: ``[..., M]``.
        reference: ``[..., M]``, not zero.
        higher_is_better: ``[M]``.

    Returns:
        ``[..., M]``.

    Raises:
        ValueError: a reference is zero, of which there is no percentage.
    """
    if np.any(reference == 0):
        raise ValueError(
            "a metric of the reference is exactly 0, so that no change relative to it exists"
        )
    sign = np.where(higher_is_better, 1.0, -1.0)
    return np.asarray(100.0 * sign * (scores - reference) / np.abs(reference))


def delta_m(changes: Array, task_of: NDArray[np.int64]) -> Array:
    """Delta_m, averaged over the metrics of a task first and then over tasks; higher is better.

    Args:
        changes: relative changes ``[..., M]``.
        task_of: the task of each metric, ``[M]``, as numbers from 0.

    Returns:
        ``[...]``.
    """
    tasks = np.unique(task_of)
    means = [changes[..., task_of == task].mean(-1) for task in tasks]
    return np.asarray(np.mean(means, axis=0))


def delta_m_flat(changes: Array) -> Array:
    """Delta_m as the plain mean over all metrics; tasks with more metrics count more.

    Args:
        changes: relative changes ``[..., M]``.

    Returns:
        ``[...]``.
    """
    return np.asarray(changes.mean(-1))


def mean_rank(scores: Array, higher_is_better: NDArray[np.bool_]) -> Array:
    """Mean over seeds and metrics of an arm's rank among the arms; 1 is best, ties share their mean.

    Args:
        scores: ``[A, S, M]`` without gaps.
        higher_is_better: ``[M]``.

    Returns:
        ``[A]``.
    """
    best_first = np.where(higher_is_better, -scores, scores)
    return np.asarray(stats.rankdata(best_first, axis=0).mean(axis=(1, 2)))


def bootstrap_delta_m(
    scores: Array,
    reference: Array,
    higher_is_better: NDArray[np.bool_],
    task_of: NDArray[np.int64],
    draws: int = 4000,
    seed: int = 0,
) -> Estimate:
    """Delta_m of one arm with a stratified bootstrap interval that includes the reference's own noise.

    The runs of the arm are drawn with replacement, each with all its metrics; the runs of each task's
    single-task network are drawn apart from those of the others, being separate networks.

    Args:
        scores: of the arm, ``[S, M]``.
        reference: of the single-task networks, ``[S', M]``.
        higher_is_better: ``[M]``.
        task_of: ``[M]``.
        draws: B.
        seed: of the draws.
    """
    value = delta_m(relative_change(scores.mean(0), reference.mean(0), higher_is_better), task_of)
    runs = len(scores)
    if min(runs, len(reference)) < 3:  # two runs have three resamples: no interval
        return Estimate(float(value), np.nan, np.nan, runs)
    random = np.random.default_rng(seed)
    arm = scores[random.integers(runs, size=(draws, runs))].mean(1)
    base = np.empty((draws, scores.shape[1]))
    for task in np.unique(task_of):
        drawn = random.integers(len(reference), size=(draws, len(reference)))
        base[:, task_of == task] = reference[:, task_of == task][drawn].mean(1)
    resampled = delta_m(relative_change(arm, base, higher_is_better), task_of)
    low, high = expanded_percentiles(resampled, min(runs, len(reference)))
    return Estimate(float(value), low, high, runs)


def expanded_percentiles(resampled: Array, runs: int, level: float = 0.95) -> tuple[float, float]:
    r"""Bootstrap percentiles widened for few runs.

    The plain percentile interval is too narrow by the factor :math:`\sqrt{(n-1)/n}` and by the ratio of
    a normal to a t quantile: with five runs it covers about 84 % instead of 95 %. The percentiles are
    moved outwards by these two factors.

    Args:
        resampled: ``[B]``.
        runs: n.
        level: coverage wanted.

    References:
        Hesterberg, *What Teachers Should Know About the Bootstrap*, The American Statistician 2015,
        arXiv:1411.5279, section 4.1.1.
    """
    t = stats.t.ppf(0.5 + level / 2, runs - 1) * np.sqrt(runs / (runs - 1))
    tail = float(stats.norm.cdf(-t))
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def mean_interval(values: Array, level: float = 0.95) -> Estimate:
    """Mean of ``[S]`` with its t interval."""
    runs = len(values)
    mean = float(values.mean()) if runs else np.nan
    if runs < 2:
        return Estimate(mean, np.nan, np.nan, runs)
    half = float(stats.t.ppf(0.5 + level / 2, runs - 1) * values.std(ddof=1) / np.sqrt(runs))
    return Estimate(mean, mean - half, mean + half, runs)


def paired_differences(values: Array, against: Array) -> list[Difference]:
    """Mean paired difference of each arm with one baseline: t interval, t test, Holm's correction.

    Args:
        values: ``[A, S]``, NaN where a run is missing; a pair with a missing run is left out.
        against: of the baseline, ``[S]``.

    Returns:
        A differences. With fewer than two pairs interval and p values are NaN.
    """
    found = []
    for row in values:
        gaps = (row - against)[np.isfinite(row - against)]
        found.append((mean_interval(gaps), _t_test(gaps), int((gaps > 0).sum())))
    corrected = holm(np.array([p for _, p, _ in found]))
    return [
        Difference(e.value, e.low, e.high, e.runs, p, float(adjusted), wins)
        for (e, p, wins), adjusted in zip(found, corrected, strict=True)
    ]


def _t_test(gaps: Array) -> float:
    """Two-sided p value that the mean of ``[S]`` is zero."""
    if len(gaps) < 2:
        return float("nan")
    spread = gaps.std(ddof=1)
    if spread == 0:
        # Runs that agree to the last digit: no evidence if they are equal, else a certain difference.
        return 1.0 if gaps.mean() == 0 else 0.0
    t = gaps.mean() / (spread / np.sqrt(len(gaps)))
    return float(2 * stats.t.sf(abs(t), len(gaps) - 1))


def holm(p: Array) -> Array:
    """Holm's step-down correction of p values ``[C]``; NaN stays NaN and is not counted.

    References:
        Holm, *A Simple Sequentially Rejective Multiple Test Procedure*, Scand. J. Statist. 1979.
    """
    corrected = np.full(len(p), np.nan)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return corrected
