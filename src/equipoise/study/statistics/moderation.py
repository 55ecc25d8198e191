"""Paired t tests whose variances borrow from those of the other arms.

Letters of the shapes: A arms, S seeds, C comparisons; ``...`` are studies side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from equipoise.study.statistics.deltas import Array

# Two pairs have one degree of freedom: whether they agree is chance.
FEWEST_PAIRS = 3

# A spread this small against the values is rounding, not noise.
ROUNDING = 1e-12

# The largest weight of the typical variance, and how far above it a variance may lie and still be moderated.
# Both, and the room in calibration.py, are chosen by simulation: benchmarks/levels.py.
PRIOR = 12.0
LIMIT = 2.0


@dataclass(frozen=True)
class PairedTests:
    """The tests of a family, side by side.

    Attributes:
        arm: number of the arm, ``[C]``.
        baseline: number of the baseline, ``[C]``.
        mean: paired difference, ``[..., C]``.
        error: its standard error, ``[..., C]``.
        df: degrees of freedom, ``[..., C]``.
        p: two-sided, ``[..., C]``; NaN where untested.
        borrows: whether its variance can be moderated: its baseline has other differences, ``[C]``.
        pairs: ``[..., C]``.
        wins: pairs in which the arm was the better one, ``[..., C]``.
    """

    arm: NDArray[np.int64]
    baseline: NDArray[np.int64]
    mean: Array
    error: Array
    df: Array
    p: Array
    pairs: NDArray[np.int64]
    wins: NDArray[np.int64]
    borrows: NDArray[np.bool_]


def moderated(
    squares: Array, df: NDArray[np.int64], prior: float = PRIOR, limit: float = LIMIT
) -> tuple[Array, Array]:
    r"""Variances moved towards the typical one, and the degrees of freedom they then have.

    .. math:: \tilde s_i^2 = \frac{d_0 s_0^2 + d_i s_i^2}{d_0 + d_i} \text{ with } d_0 + d_i \text{ df,
        where } s_i^2 \le 2 s_0^2; \quad s_i^2 \text{ with } d_i \text{ df elsewhere}

    The typical variance :math:`s_0^2` and its weight :math:`d_0` are Smyth's moment estimates: the more alike
    the logarithms of the variances, the more each borrows. Differences from Smyth: the weight has a limit,
    since it is estimated from few arms, and a variance far above the typical one stays as it is, since
    one noisy arm would otherwise be judged by a spread that is not its own.

    Args:
        squares: sums of squared deviations, ``[..., C]``; zeros tell nothing of the typical variance.
        df: of each, ``[..., C]``; where below 1 the variance is NaN.
        prior: the largest :math:`d_0`; 0 leaves the variances alone.
        limit: variances up to this multiple of the typical one are moderated.

    Returns:
        Variances and degrees of freedom, ``[..., C]``.

    References:
        Smyth, *Linear Models and Empirical Bayes Methods for Assessing Differential Expression in Microarray
        Experiments*, Stat. Appl. Genet. Mol. Biol. 2004.
    """
    known = df >= 1
    own = np.where(known, df, 1).astype(np.float64)
    variance = np.where(known, squares / own, np.nan)
    typical, weight = _typical(variance, own, known & (variance > 0), prior)
    moved = (weight * typical + own * variance) / (weight + own)
    take = (weight > 0) & (variance <= limit * typical)
    return np.where(take, moved, variance), np.where(take, weight + own, own)


def _typical(
    variance: Array, df: Array, counted: NDArray[np.bool_], prior: float
) -> tuple[Array, Array]:
    """Typical variance and its degrees of freedom, ``[..., 1]``; 0 where fewer than two are counted."""
    count = counted.sum(-1, keepdims=True)
    several = np.maximum(count, 2)
    logs = np.log(np.where(counted, variance * df / 2, 1.0)) - special.digamma(df / 2)
    mean = np.where(counted, logs, 0.0).sum(-1, keepdims=True) / several
    spread = np.where(counted, (logs - mean) ** 2, 0.0).sum(-1, keepdims=True) / (several - 1)
    chance = np.where(counted, special.polygamma(1, df / 2), 0.0).sum(-1, keepdims=True) / several
    if not prior:
        return np.zeros_like(mean), np.zeros_like(mean)
    weights = np.geomspace(prior, 1e-5 * prior, 1000)
    # The spread of logarithms beyond chance is the trigamma function of half the weight.
    weight = np.interp(spread - chance, special.polygamma(1, weights / 2), weights)
    typical = np.exp(mean + special.digamma(weight / 2) - np.log(weight / 2))
    return np.where(count > 1, typical, 0.0), np.where(count > 1, weight, 0.0)


def paired_tests(
    values: Array,
    baselines: Sequence[int],
    prior: float = PRIOR,
    limit: float = LIMIT,
    further: Sequence[tuple[int, int]] = (),
) -> PairedTests:
    """The moderated t tests of each arm with each baseline, baseline by baseline; baselines meet once.

    The typical variance is that of all differences to the same baseline, which share its noise. A
    difference without any spread, its own or borrowed, is untested unless it is 0 (then p = 1).

    Args:
        values: ``[..., A, S]``, NaN where a run is missing; a pair with a missing run is left out.
        baselines: numbers of arms.
        prior: as for :func:`moderated`.
        limit: as for :func:`moderated`.
        further: pairs (arm, other) that are compared after these; the other meets nothing else.
    """
    arms = np.setdiff1d(np.arange(values.shape[-2]), [other for _, other in further])
    size = np.nanmax(np.abs(values), axis=(-2, -1), initial=0.0)[..., None]
    meetings = [(b, arms[arms != b], baselines[:place]) for place, b in enumerate(baselines)]
    meetings += [(other, np.array([arm]), ()) for arm, other in further]
    parts = []
    for baseline, others, before in meetings:
        gaps = values[..., others, :] - values[..., [baseline], :]
        here = np.isfinite(gaps)
        pairs = here.sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(here, gaps, 0.0).sum(-1) / pairs
        squares = (np.where(here, gaps - mean[..., None], 0.0) ** 2).sum(-1)
        squares = np.where(squares <= pairs * (ROUNDING * size) ** 2, 0.0, squares)
        variance, df = moderated(squares, pairs - 1, prior, limit)
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.sqrt(variance / pairs)
            t = np.where(mean == 0, 0.0, np.abs(mean) / error)
        untested = (pairs < FEWEST_PAIRS) | ((variance == 0) & (mean != 0))
        p = np.where(untested, np.nan, 2 * stats.t.sf(t, df))
        wins = (here & (gaps > 0)).sum(-1)
        new = ~np.isin(others, before)
        found = [each[..., new] for each in (mean, error, df, p, pairs, wins)]
        borrows = np.full(new.sum(), len(others) > 1 and prior > 0)
        parts.append([others[new], np.full(new.sum(), baseline), *found, borrows])
    return PairedTests(*(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)))
