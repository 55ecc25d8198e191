"""The numbers of one arm of a comparison, by itself."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from equipoise.study.arms import Arm
from equipoise.study.choice import Choice
from equipoise.study.plans import Plan
from equipoise.study.price import Spent
from equipoise.study.selection import Measurements
from equipoise.study.spec import Spec
from equipoise.study.statistics import (
    Array,
    Difference,
    Estimate,
    Mask,
    change,
    delta_m,
    delta_m_flat,
    mean_interval,
    paired_delta_m,
    paired_deltas,
)
from equipoise.study.trial import SINGLE_TASK, Trial


@dataclass
class ArmFindings:
    """An arm's numbers.

    Attributes:
        plan: the arm, its trials, what tuning chose, and the score of every candidate.
        scores: on the test split after the last epoch, ``[S, M]``; NaN where a run did not finish.
        deltas: Delta_m of each run against the mean of the single-task networks, ``[S]``.
        metrics: mean and interval of each column, M long; None for columns it does not learn.
        changes: change of each column's mean against single-task, in percent, or in units of the metric
            where the findings say plain, ``[M]``.
        paired: the same, each against the single-task networks of its own seed, ``[S]``; see
            :func:`~equipoise.study.statistics.paired_deltas`.
        delta: Delta_m with its interval, over the seeds that the arm and all single-task networks finished.
        flat: Delta_m averaged over metrics instead of tasks.
        rank: mean rank among the arms that finished.
        against: paired differences in Delta_m, by label of the baseline.
        spent: cost; None where no run finished.
        diverged: seeds whose run left the finite numbers.
        failed: seeds whose run gave no result, with the error.
        missing: seeds not run yet.
    """

    plan: Plan
    scores: Array
    deltas: Array
    metrics: list[Estimate | None]
    changes: Array
    paired: Array
    delta: Estimate
    flat: float
    rank: float = float("nan")
    against: dict[str, Difference] = field(default_factory=dict)
    spent: Spent | None = None
    diverged: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)

    @property
    def arm(self) -> Arm:
        """The arm."""
        return self.plan.arm

    @property
    def choice(self) -> Choice:
        """What tuning chose, and the score of every candidate."""
        return self.plan.choice

    @property
    def trials(self) -> tuple[Trial | None, ...]:
        """Its final trials, in the order of the seeds; None where tuning chose nothing."""
        return self.plan.finals

    @property
    def runs(self) -> list[Trial]:
        """The final trials there are to be."""
        return [trial for trial in self.trials if trial is not None]

    @property
    def complete(self) -> bool:
        """Whether every seed finished with finite numbers."""
        return bool(np.isfinite(self.deltas).all())


@dataclass(frozen=True)
class Against:
    """What Delta_m is taken against.

    Attributes:
        whole: runs without gaps, ``[S', M]``.
        by_seed: the run of each seed, ``[S, M]``.
        plain: columns where it is near zero, ``[M]``.
    """

    whole: Array
    by_seed: Array
    plain: Mask


def arm_findings(
    spec: Spec, plan: Plan, found: Measurements, scores: Array, against: Against
) -> ArmFindings:
    """The numbers of an arm by itself, before it is compared with others.

    Args:
        spec: the study.
        plan: of the arm.
        found: what was measured.
        scores: of its final trials on test, ``[S, M]``.
        against: what Delta_m is taken against.
    """
    trials = plan.finals
    entry = ArmFindings(
        plan=plan,
        scores=scores,
        deltas=np.full(len(spec.seeds), np.nan),
        metrics=[_estimate(column) for column in scores.T],
        changes=np.full(len(found.measures), np.nan),
        paired=np.full(len(spec.seeds), np.nan),
        delta=Estimate(np.nan, np.nan, np.nan, 0),
        flat=float("nan"),
    )
    for seed, trial in zip(spec.seeds, trials, strict=True):
        stored = None if trial is None else found.trials.get(trial.id)
        if stored is None:
            # Where tuning is through and nothing finished, there is nothing to come.
            if trial is not None or not plan.choice.complete:
                entry.missing.append(seed)
        elif stored.status == "diverged":
            entry.diverged.append(seed)
        elif stored.status == "failed":
            entry.failed[seed] = stored.note
    if plan.arm.method != SINGLE_TASK and len(against.whole):
        _against_single_task(entry, found, against)
    return entry


def _against_single_task(entry: ArmFindings, found: Measurements, against: Against) -> None:
    changes = change(entry.scores, against.whole, found.higher, against.plain)
    entry.deltas = delta_m(changes.values, found.task_of)
    finished = entry.scores[np.isfinite(entry.deltas)]
    if not len(finished):
        return
    mean = finished.mean(0)
    entry.changes = change(mean, against.whole, found.higher, against.plain).values
    entry.flat = float(delta_m_flat(entry.changes))
    how = (found.higher, found.task_of, against.plain)
    entry.paired = paired_deltas(entry.scores, against.by_seed, *how)
    entry.delta = paired_delta_m(entry.scores, against.by_seed, *how)
    if not entry.delta.runs:
        entry.delta = Estimate(float(np.nanmean(entry.deltas)), np.nan, np.nan, len(finished))


def _estimate(column: Array) -> Estimate | None:
    finite = column[np.isfinite(column)]
    return mean_interval(finite) if len(finite) else None
