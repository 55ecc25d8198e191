"""Numbers with intervals: of one arm over its runs.

Letters of the shapes: S runs, M metrics of all tasks, B bootstrap draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from equipoise.study.statistics.deltas import Array, Mask, _changes, delta_m


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, and the number of runs behind it."""

    value: float
    low: float
    high: float
    runs: int


def mean_interval(values: Array, level: float = 0.95) -> Estimate:
    """Mean of ``[S]`` with its t interval."""
    runs = len(values)
    mean = float(values.mean()) if runs else np.nan
    if runs < 2:
        return Estimate(mean, np.nan, np.nan, runs)
    half = float(stats.t.ppf(0.5 + level / 2, runs - 1) * values.std(ddof=1) / np.sqrt(runs))
    return Estimate(mean, mean - half, mean + half, runs)


def paired_deltas(
    scores: Array,
    reference: Array,
    higher_is_better: Mask,
    task_of: NDArray[np.int64],
    plain: Mask | None = None,
) -> Array:
    r"""Delta_m of each run with the noise of the reference's own run of that seed, ``[S]``.

    .. math:: 100 \, s_m \left(\frac{x_{sm} - \bar r_m}{|\bar r_m|}
        - \frac{\bar x_m}{\bar r_m} \cdot \frac{r_{sm} - \bar r_m}{|\bar r_m|}\right)

    averaged over metrics and tasks: the first order of Delta_m in the deviations of both from their means.
    The mean over runs is Delta_m of the means; the spread is that of a paired difference, so that what both
    share in a seed drops out.

    Args:
        scores: of the arm, ``[S, M]``.
        reference: of the single-task networks of the same seeds, ``[S, M]``. A seed with a gap on either
            side is left out: NaN.
        higher_is_better: ``[M]``.
        task_of: ``[M]``.
        plain: metrics whose change is a plain difference, ``[M]``; none by default.
    """
    plain = np.zeros(len(task_of), dtype=bool) if plain is None else plain
    both = np.isfinite(scores).all(1) & np.isfinite(reference).all(1)
    found = np.full(len(scores), np.nan)
    if both.any():
        own, base = scores[both], reference[both]
        mean, middle = own.mean(0), base.mean(0)
        moved = np.where(plain, 1.0, mean / np.where(plain, 1.0, middle)) * (base - middle)
        found[both] = delta_m(_changes(own - moved, middle, higher_is_better, plain), task_of)
    return found


def paired_delta_m(
    scores: Array,
    reference: Array,
    higher_is_better: Mask,
    task_of: NDArray[np.int64],
    plain: Mask | None = None,
) -> Estimate:
    """Delta_m of one arm with the t interval of :func:`paired_deltas`; none for fewer than three pairs."""
    values = paired_deltas(scores, reference, higher_is_better, task_of, plain)
    found = mean_interval(values[np.isfinite(values)])
    return found if found.runs >= 3 else Estimate(found.value, np.nan, np.nan, found.runs)


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


def interquartile_mean(values: Array) -> Array:
    """Mean of the middle half of ``[..., N]``: a quarter is cut off at either end.

    The number cut is rounded down, as in :func:`scipy.stats.trim_mean`.

    References:
        Agarwal et al., *Deep Reinforcement Learning at the Edge of the Statistical Precipice*, NeurIPS
        2021, arXiv:2108.13264.
    """
    return np.asarray(stats.trim_mean(values, 0.25, axis=-1))


def bootstrap_iqm(scores: Array, draws: int = 4000, seed: int = 0) -> Estimate:
    """Interquartile mean over all runs and tasks, with a stratified bootstrap interval.

    Runs are drawn with replacement for each task apart; the percentiles are widened for few runs.

    Args:
        scores: ``[S, T]``, on one scale (changes in percent, say).
        draws: B.
        seed: of the draws.
    """
    runs, tasks = scores.shape
    value = float(interquartile_mean(scores.ravel()))
    if runs < 3:
        return Estimate(value, np.nan, np.nan, runs)
    random = np.random.default_rng(seed)
    drawn = random.integers(runs, size=(draws, runs, tasks))
    resampled = interquartile_mean(scores[drawn, np.arange(tasks)].reshape(draws, -1))
    return Estimate(value, *expanded_percentiles(resampled, runs), runs)
