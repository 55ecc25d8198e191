"""The numbers of one arm of a comparison."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from equipoise.study.arms import Arm
from equipoise.study.choice import Choice
from equipoise.study.plans import Plan
from equipoise.study.price import Spent
from equipoise.study.statistics import Array, Difference, Estimate
from equipoise.study.trial import Trial


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
