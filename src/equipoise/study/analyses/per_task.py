"""On which task a method differs: every metric by itself, corrected for all of them together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.study.findings import Findings
from equipoise.study.selection import Measure
from equipoise.study.statistics import change, holm, multipliers, paired_tests


@dataclass(frozen=True)
class TaskDifference:
    """An arm against a baseline in one metric.

    Attributes:
        label: of the arm.
        measure: the metric.
        value: mean paired difference, in percent of the single-task networks (in the metric's own units where
            these are near zero); positive is better.
        wins: pairs in which the arm was the better one.
        runs: pairs.
        p: of this difference alone; NaN below three pairs.
        p_holm: corrected for all arms and metrics.
        complete: whether the arm lost no run.
    """

    label: str
    measure: Measure
    value: float
    wins: int
    runs: int
    p: float
    p_holm: float
    complete: bool

    def shown(self, level: float = 0.05) -> bool:
        """Whether a difference was shown; an arm that lost a run is never shown to be better."""
        return bool(self.p_holm <= level) and (self.complete or self.value < 0)


def per_task(found: Findings, baseline: str) -> list[TaskDifference]:
    """Every arm against a baseline in every metric: moderated t tests over paired seeds, one family.

    It is a family of its own, beside the one of the verdict: what is shown here is a finer look at one
    baseline, and no further claim about Delta_m.

    Args:
        found: of a study.
        baseline: label of an arm.
    """
    base = found.arm(baseline)
    others = [each for each in found.arms if each is not base]
    if not others or not len(found.whole):
        return []
    rows = []
    for entry in others:
        own, theirs = (
            change(each.scores, found.whole, found.found.higher, found.plain).values
            for each in (entry, base)
        )
        rows.append(own - theirs)
    gaps = np.stack(rows)  # [A, S, M]
    told = []
    for k, measure in enumerate(found.measures):
        # Differences to a row of zeros.
        values = np.vstack([np.zeros_like(gaps[:1, :, k]), gaps[..., k]])
        tests = paired_tests(values, [0])
        told += [
            (entry, measure, tests.mean[a], tests.wins[a], tests.pairs[a], tests.p[a])
            for a, entry in enumerate(others)
        ]
    # Every metric has as many comparisons; a run that one of them lost, all have lost.
    factors = multipliers(values, [0], families=len(found.measures))
    corrected = holm(np.array([each[-1] for each in told]), factors)
    return [
        TaskDifference(
            label=entry.arm.label,
            measure=measure,
            value=float(mean),
            wins=int(wins),
            runs=int(runs),
            p=float(p),
            p_holm=float(own),
            complete=entry.complete,
        )
        for (entry, measure, mean, wins, runs, p), own in zip(told, corrected, strict=True)
    ]
