"""Paired t tests whose variances borrow from those of the other arms.

Letters of the shapes: A arms, S seeds, C comparisons; ``...`` are studies side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from equipoise.study.statistics.deltas import Array

# Two pairs have one degree of freedom: whether they agree is chance.
FEWEST_PAIRS = 3

# A spread this small against the values is rounding, not noise.
ROUNDING = 1e-12


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


def moderated(
    squares: Array,
    df: NDArray[np.int64],
    prior: float = 4.0,
    limit: float = 1.0,
    share: float = 0.5,
) -> tuple[Array, Array]:
    r"""Variances raised towards the typical one, and the degrees of freedom they then have.

    .. math:: \tilde s_i^2 = \frac{d_0 s_0^2 + d_i s_i^2}{d_0 + d_i} \text{ with } d_0 + d_i \text{ df,
        where } s_i^2 \le s_0^2; \quad s_i^2 \text{ with } d_i \text{ df elsewhere}

    The typical variance :math:`s_0^2` is the median over comparisons, freed from its bias
    (divided by the median of :math:`\chi^2_d / d`). Its weight :math:`d_0` is ``prior``, but at most
    ``share`` of the comparison's own degrees of freedom, and less than the number of comparisons: a median
    of few is itself uncertain. Smyth shrinks large variances too and estimates :math:`d_0`. The false
    claims of a family then come from arms noisier than the others, which look quiet by chance and are judged
    by a spread that is not theirs; hence the caps (``benchmarks/levels.py`` compares, with
    ``limit=inf, share=inf``).

    Args:
        squares: sums of squared deviations, ``[..., C]``; zeros do not count for the median.
        df: of each, ``[..., C]``; where below 1 the variance is NaN.
        prior: the largest :math:`d_0`; 0 leaves the variances alone.
        limit: variances up to this multiple of the typical one are moderated.
        share: the largest :math:`d_0`, as a part of the own degrees of freedom.

    Returns:
        Variances and degrees of freedom, ``[..., C]``.

    References:
        Smyth, *Linear Models and Empirical Bayes Methods for Assessing Differential Expression in Microarray
        Experiments*, Stat. Appl. Genet. Mol. Biol. 2004.
    """
    known = df >= 1
    own = np.where(known, df, 1).astype(np.float64)
    variance = np.where(known, squares / own, np.nan)
    sizes = np.unique(own)
    bias = (stats.chi2.median(sizes) / sizes)[np.searchsorted(sizes, own)]
    counted = known & (variance > 0)
    count = counted.sum(-1, keepdims=True)
    typical = _median(np.where(counted, variance / bias, np.inf), count)
    weight = np.minimum(np.clip(count - 1.0, 0.0, prior), share * own)
    raised = (weight * typical + own * variance) / (weight + own)
    take = variance <= limit * typical
    return np.where(take, raised, variance), np.where(take, weight + own, own)


def _median(values: Array, count: NDArray[np.int64]) -> Array:
    """Median of the ``count`` smallest along the last axis, kept; 0 where there are none."""
    ordered = np.sort(values, axis=-1)
    last = ordered.shape[-1] - 1
    lower, upper = np.clip((count - 1) // 2, 0, last), np.clip(count // 2, 0, last)
    middle = [np.take_along_axis(ordered, place, axis=-1) for place in (lower, upper)]
    return np.where(count > 0, (middle[0] + middle[1]) / 2, 0.0)


def paired_tests(
    values: Array,
    baselines: Sequence[int],
    prior: float = 4.0,
    limit: float = 1.0,
    share: float = 0.5,
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
        share: as for :func:`moderated`.
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
        variance, df = moderated(squares, pairs - 1, prior, limit, share)
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.sqrt(variance / pairs)
            t = np.where(mean == 0, 0.0, np.abs(mean) / error)
        untested = (pairs < FEWEST_PAIRS) | ((variance == 0) & (mean != 0))
        p = np.where(untested, np.nan, 2 * stats.t.sf(t, df))
        wins = (here & (gaps > 0)).sum(-1)
        new = ~np.isin(others, before)
        found = [each[..., new] for each in (mean, error, df, p, pairs, wins)]
        parts.append([others[new], np.full(new.sum(), baseline), *found])
    return PairedTests(*(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)))
