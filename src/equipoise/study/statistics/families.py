"""One family of all comparisons that a verdict states: what is shown, and how well it is known.

Letters of the shapes: A arms, S seeds, C comparisons; ``...`` are studies side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from equipoise.study.statistics.calibration import multipliers
from equipoise.study.statistics.deltas import Array
from equipoise.study.statistics.estimates import Estimate
from equipoise.study.statistics.moderation import PRIOR, PairedTests, paired_tests
from equipoise.study.statistics.power import smallest_detectable


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference; its interval excludes 0 exactly where it is shown.

    Attributes:
        p: of this comparison alone; NaN where it is untested: fewer than three pairs, or no spread at all.
        p_holm: after the correction for all comparisons of the family.
        wins: pairs in which the arm was the better one.
        level: at which the family errs.
        detectable: the true difference that 80 % of such studies would have shown.
    """

    p: float
    p_holm: float
    wins: int
    level: float = 0.05
    detectable: float = float("nan")

    @property
    def tested(self) -> bool:
        """Whether there was enough to test."""
        return bool(np.isfinite(self.p_holm))

    def shown(self) -> bool:
        """Whether a difference was shown, at the level of the family."""
        return bool(self.p_holm <= self.level)


def compare(
    values: Array,
    baselines: Sequence[int],
    prior: float = PRIOR,
    level: float = 0.05,
    further: Sequence[tuple[int, int]] = (),
) -> dict[tuple[int, int], Difference]:
    """Every arm with every baseline, as one family: moderated and calibrated t tests, Holm's correction.

    Two baselines meet once. The chance of one false claim or more in the whole family is at most ``level``.

    The intervals hold together: each is a moderated t interval at the level that its p value must reach while
    nothing is shown, so that all C cover their true differences in at least ``1 - level`` of studies. Where a
    difference is shown only because others were shown before it, its interval has the level of its own
    step. Hence an interval excludes 0 exactly where the difference is shown.

    Args:
        values: ``[A, S]``, NaN where a run is missing; a pair with a missing run is left out.
        baselines: numbers of arms; the most important one first.
        prior: the largest weight of the typical variance, see :func:`moderated`; 0 for plain t tests.
        level: of the family.
        further: pairs (arm, other) that belong to the family too; the other meets nothing else.

    Returns:
        The differences arm - baseline by (arm, baseline).

    References:
        Holm, *A Simple Sequentially Rejective Multiple Test Procedure*, Scand. J. Statist. 1979.
    """
    if not (len(baselines) or len(further)) or len(values) < 2:
        return {}
    tests = paired_tests(values, baselines, prior, further=further)
    factors = multipliers(values, baselines, prior, further=further, level=level)
    adjusted = holm(tests.p, factors)
    low, high, alpha = intervals(tests, adjusted, factors, level)
    return {
        (int(tests.arm[c]), int(tests.baseline[c])): Difference(
            value=float(tests.mean[c]),
            low=float(low[c]),
            high=float(high[c]),
            runs=int(tests.pairs[c]),
            p=float(tests.p[c]),
            p_holm=float(adjusted[c]),
            wins=int(tests.wins[c]),
            level=level,
            detectable=smallest_detectable(
                float(tests.error[c]), float(tests.df[c]), float(alpha[c])
            ),
        )
        for c in range(len(tests.arm))
    }


def paired_differences(values: Array, against: Array) -> list[Difference]:
    """Plain paired t tests of each arm with one baseline, as one family.

    Args:
        values: ``[A, S]``, NaN where a run is missing.
        against: of the baseline, ``[S]``.
    """
    found = compare(np.vstack([against[None], values]), [0], prior=0.0)
    return [found[arm, 0] for arm in range(1, len(values) + 1)]


def holm(p: Array, factors: Array | None = None) -> Array:
    """Holm's step-down correction of p values ``[..., C]``; NaN stays NaN and is not counted.

    Args:
        p: two-sided p values.
        factors: by what a p value is multiplied where m are left, m = 1 to C; m itself by default.

    References:
        Holm, *A Simple Sequentially Rejective Multiple Test Procedure*, Scand. J. Statist. 1979.
    """
    factors = _plain(p) if factors is None else factors
    order = np.argsort(p, axis=-1, kind="stable")  # NaN comes last
    tested = np.isfinite(p).sum(-1, keepdims=True)
    left = np.maximum(tested - np.arange(p.shape[-1]), 1)
    steps = np.take_along_axis(p, order, axis=-1) * factors[left - 1]
    corrected = np.empty_like(p)
    np.put_along_axis(
        corrected, order, np.minimum(np.maximum.accumulate(steps, axis=-1), 1.0), axis=-1
    )
    return corrected


def intervals(
    tests: PairedTests, adjusted: Array, factors: Array | None = None, level: float = 0.05
) -> tuple[Array, Array, Array]:
    """The intervals of :func:`compare`: low, high, and the level of each, ``[..., C]``."""
    factors = _plain(tests.p) if factors is None else factors
    count = np.maximum(np.isfinite(tests.p).sum(-1, keepdims=True), 1)
    first = level / factors[count - 1]
    own = level / factors[np.maximum(count - _smaller(tests.p), 1) - 1]
    alpha = np.where((adjusted <= level) & (tests.p > first), own, first)
    half = np.where(np.isnan(tests.p), np.nan, stats.t.isf(alpha / 2, tests.df) * tests.error)
    return tests.mean - half, tests.mean + half, np.where(np.isnan(tests.p), np.nan, alpha)


def _plain(p: Array) -> Array:
    return np.arange(1.0, p.shape[-1] + 1)


def _smaller(p: Array) -> NDArray[np.int64]:
    """How many tested p values come before each, ``[..., C]``."""
    order = np.argsort(p, axis=-1, kind="stable")
    before = np.empty(p.shape, dtype=np.int64)
    np.put_along_axis(before, order, np.broadcast_to(np.arange(p.shape[-1]), p.shape), axis=-1)
    return before
