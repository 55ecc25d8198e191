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
        waits: whether it stands behind a gate that stayed closed.
    """

    p: float
    p_holm: float
    wins: int
    level: float = 0.05
    detectable: float = float("nan")
    waits: bool = False

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
    gate: bool = False,
    level: float = 0.05,
    further: Sequence[tuple[int, int]] = (),
) -> dict[tuple[int, int], Difference]:
    """Every arm with every baseline, as one family: moderated and calibrated t tests, Holm's correction.

    Two baselines meet once. The chance of one false claim or more in the whole family is at most ``level``.

    The intervals hold together: each is a moderated t interval at the level that its p value must reach while
    nothing is shown, so that all C cover their true differences in at least ``1 - level`` of studies. Where a
    difference is shown only because others were shown before it, its interval has the level of its own
    step. Hence an interval excludes 0 exactly where the difference is shown.

    With ``gate`` the baselines are met in their order: an arm is compared with the second only once a
    difference to the first is shown, and so on; arms share the level by Holm's procedure. That finds more
    against the first baseline, and nothing for an arm that differs from the later ones only. Intervals then
    hold one by one, not together, and reach to 0 behind a gate that stayed closed.

    Args:
        values: ``[A, S]``, NaN where a run is missing; a pair with a missing run is left out.
        baselines: numbers of arms; the most important one first.
        prior: the largest weight of the typical variance, see :func:`moderated`; 0 for plain t tests.
        gate: whether later baselines wait for earlier ones.
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
    adjusted = gated(tests, factors) if gate else holm(tests.p, factors)
    low, high, alpha = intervals(tests, adjusted, factors, gate, level)
    waits = _behind(tests, adjusted, level) if gate else np.zeros(tests.p.shape, dtype=bool)
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
            waits=bool(waits[c]),
            detectable=smallest_detectable(
                float(tests.error[c]), float(tests.df[c]), float(alpha[c])
            ),
        )
        for c in range(len(tests.arm))
    }


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


def gated(tests: PairedTests, factors: Array) -> Array:
    """Corrected p values where later baselines wait for earlier ones, ``[..., C]``.

    Every arm has a chain of comparisons in the order of the baselines. Arms whose chain is not through share
    the level equally; an arm that is through leaves its share to the others. An untested comparison
    holds nothing up.

    References:
        Bretz et al., *A graphical approach to sequentially rejective multiple test procedures*, Statistics
        in Medicine 2009.
    """
    arms = np.unique(tests.arm)
    chain = np.zeros(tests.p.shape)  # the largest p value up to here in the chain of its arm
    through = np.zeros((*tests.p.shape[:-1], len(arms)))
    for place, arm in enumerate(arms):
        own = tests.arm == arm
        largest = np.maximum.accumulate(np.nan_to_num(tests.p[..., own], nan=0.0), axis=-1)
        chain[..., own], through[..., place] = largest, largest[..., -1]
    ordered = np.sort(through, axis=-1)
    left = (len(arms) - np.arange(len(arms))) * _inflation(factors)
    # The level at which k arms are through, for k = 0 to A - 1.
    steps = np.maximum.accumulate(ordered * left, axis=-1)
    reached = np.concatenate([np.zeros_like(steps[..., :1]), steps[..., :-1]], axis=-1)
    corrected = np.maximum(reached[..., None, :], chain[..., :, None] * left).min(-1)
    return np.where(np.isnan(tests.p), np.nan, np.minimum(corrected, 1.0))


def intervals(
    tests: PairedTests,
    adjusted: Array,
    factors: Array | None = None,
    gate: bool = False,
    level: float = 0.05,
) -> tuple[Array, Array, Array]:
    """The intervals of :func:`compare`: low, high, and the level of each, ``[..., C]``."""
    factors = _plain(tests.p) if factors is None else factors
    shown = adjusted <= level
    if gate:
        arms = np.unique(tests.arm)
        through = sum(
            np.where(np.isnan(adjusted), True, shown)[..., tests.arm == arm].all(-1) for arm in arms
        )
        waiting = np.maximum(len(arms) - np.asarray(through)[..., None], 1)
        alpha = np.broadcast_to(level / waiting / _inflation(factors), tests.p.shape)
    else:
        count = np.maximum(np.isfinite(tests.p).sum(-1, keepdims=True), 1)
        first = level / factors[count - 1]
        own = level / factors[np.maximum(count - _smaller(tests.p), 1) - 1]
        alpha = np.where(shown & (tests.p > first), own, first)
    half = np.where(np.isnan(tests.p), np.nan, stats.t.isf(alpha / 2, tests.df) * tests.error)
    low, high = tests.mean - half, tests.mean + half
    if gate:
        low = np.where(shown, low, np.minimum(low, 0.0))
        high = np.where(shown, high, np.maximum(high, 0.0))
    return low, high, np.where(np.isnan(tests.p), np.nan, alpha)


def _inflation(factors: Array) -> float:
    """What a p value is multiplied by beyond the number of comparisons, at most."""
    inflation: float = (factors / np.arange(1, len(factors) + 1)).max()
    return inflation


def _behind(tests: PairedTests, adjusted: Array, level: float) -> NDArray[np.bool_]:
    """Which comparisons come after one of the same arm that was tested and not shown, ``[C]``."""
    closed = adjusted > level
    return np.array([closed[:c][tests.arm[:c] == arm].any() for c, arm in enumerate(tests.arm)])


def _plain(p: Array) -> Array:
    return np.arange(1.0, p.shape[-1] + 1)


def _smaller(p: Array) -> NDArray[np.int64]:
    """How many tested p values come before each, ``[..., C]``."""
    order = np.argsort(p, axis=-1, kind="stable")
    before = np.empty(p.shape, dtype=np.int64)
    np.put_along_axis(before, order, np.broadcast_to(np.arange(p.shape[-1]), p.shape), axis=-1)
    return before
