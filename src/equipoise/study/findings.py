"""What a store says: every number of a comparison, computed once for report, terminal and tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from equipoise.study import protocols
from equipoise.study.protocols import Arm
from equipoise.study.selection import Choice, Measure, Measurements, choose
from equipoise.study.spec import Spec, parse
from equipoise.study.statistics import (
    Array,
    Difference,
    Estimate,
    bootstrap_delta_m,
    delta_m,
    delta_m_flat,
    mean_interval,
    mean_rank,
    paired_differences,
    relative_change,
)
from equipoise.study.store import Store, Stored
from equipoise.study.trial import SINGLE_TASK, Trial

# The baselines that every arm is compared with.
BASELINES = ("ew", "rlw")


@dataclass(frozen=True)
class Spent:
    """What an arm's final trials cost.

    Attributes:
        step_ms: wall time of a step, the median over runs.
        ratio: to equal weighting, the median over runs paired by seed.
        backwards: backward passes through the trunk in a step.
        seconds: wall time of a run.
        samples: training examples seen in a run.
    """

    step_ms: float
    ratio: float
    backwards: float
    seconds: float
    samples: int


@dataclass
class ArmFindings:
    """An arm's numbers.

    Attributes:
        arm: the arm.
        choice: what tuning chose, and the score of every candidate.
        trials: its final trials, in the order of the seeds; None where tuning chose nothing.
        scores: on the test split after the last epoch, ``[S, M]``; NaN where a run did not finish.
        deltas: Delta_m of each run against the mean of the single-task networks, ``[S]``.
        metrics: mean and interval of each column, M long; None for columns it does not learn.
        changes: change of each column's mean against single-task, in percent, ``[M]``.
        delta: Delta_m with its bootstrap interval.
        flat: Delta_m averaged over metrics instead of tasks.
        rank: mean rank among the arms that finished.
        against: paired differences in Delta_m, by baseline.
        spent: cost; None where no run finished.
        diverged: seeds whose run left the finite numbers.
        failed: seeds whose run gave no result, with the error.
        missing: seeds not run yet.
    """

    arm: Arm
    choice: Choice
    trials: list[Trial | None]
    scores: Array
    deltas: Array
    metrics: list[Estimate | None]
    changes: Array
    delta: Estimate
    flat: float
    rank: float = float("nan")
    against: dict[str, Difference] = field(default_factory=dict)
    spent: Spent | None = None
    diverged: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)

    @property
    def runs(self) -> list[Trial]:
        """The final trials there are to be."""
        return [trial for trial in self.trials if trial is not None]

    @property
    def complete(self) -> bool:
        """Whether every seed finished with finite numbers."""
        return bool(np.isfinite(self.deltas).all())


@dataclass
class Findings:
    """All numbers of a study.

    Attributes:
        spec: the study.
        problem: description of the problem.
        measures: the columns M.
        single: single-task arms, by task.
        arms: all others, in the order of the study.
        store: trials and measurements.
        environments: where trials ran.
        weights: rows ``(trial, epoch, task, mean, std)`` of the weights applied.
        gradients: rows ``(trial, epoch, task, other, value)``: cosines, and norms where both are the same.
    """

    spec: Spec
    problem: dict[str, Any]
    measures: list[Measure]
    single: dict[str, ArmFindings]
    arms: list[ArmFindings]
    found: Measurements
    environments: dict[int, dict[str, Any]]
    weights: list[tuple[Any, ...]]
    gradients: list[tuple[Any, ...]]

    def arm(self, label: str) -> ArmFindings:
        """The arm called ``label``."""
        return next(each for each in self.arms if each.arm.label == label)

    @property
    def all_arms(self) -> list[ArmFindings]:
        """Single-task arms and the others."""
        return [*self.single.values(), *self.arms]

    @property
    def stored(self) -> dict[str, Stored]:
        """Trials of the store by id."""
        return self.found.trials


def findings(store: Store) -> Findings:
    """Computes everything a store has to say about its study.

    Raises:
        ValueError: the store holds no study yet.
    """
    found = Measurements(store)
    spec = parse(store.get("spec"), str(store.path))
    arms = protocols.arms(spec, store.get("problem")["first_losses"])
    choices = choose(spec, arms, found)
    single_trials = {
        arm.task: _final(spec, arm, choices[arm.label]) for arm in arms if arm.task is not None
    }
    reference = found.single_task(single_trials, "test")
    entries = [_arm(spec, arm, choices[arm.label], found, reference) for arm in arms]
    compared = [entry for entry in entries if entry.arm.method != SINGLE_TASK]
    _rank(compared, found)
    _compare(compared)
    _price(entries, found)
    return Findings(
        spec=spec,
        problem=store.get("problem"),
        measures=found.measures,
        single={entry.arm.task: entry for entry in entries if entry.arm.task is not None},
        arms=compared,
        found=found,
        environments=store.environments(),
        weights=store.table("weight")[1],
        gradients=store.table("gradient")[1],
    )


def _final(spec: Spec, arm: Arm, choice: Choice) -> list[Trial | None]:
    return protocols.final(spec, arm, choice.by_seed)


def _arm(
    spec: Spec, arm: Arm, choice: Choice, found: Measurements, reference: Array
) -> ArmFindings:
    trials = _final(spec, arm, choice)
    scores = np.stack([found.last(trial, "test") for trial in trials])
    entry = ArmFindings(
        arm=arm,
        choice=choice,
        trials=trials,
        scores=scores,
        deltas=np.full(len(spec.seeds), np.nan),
        metrics=[_estimate(column) for column in scores.T],
        changes=np.full(len(found.measures), np.nan),
        delta=Estimate(np.nan, np.nan, np.nan, 0),
        flat=float("nan"),
    )
    for seed, trial in zip(spec.seeds, trials, strict=True):
        stored = None if trial is None else found.trials.get(trial.id)
        if stored is None:
            entry.missing.append(seed)
        elif stored.status == "diverged":
            entry.diverged.append(seed)
        elif stored.status == "failed":
            entry.failed[seed] = stored.note
    whole = reference[np.isfinite(reference).all(1)]
    if arm.method != SINGLE_TASK and len(whole):
        _against_single_task(entry, found, whole)
    return entry


def _against_single_task(entry: ArmFindings, found: Measurements, reference: Array) -> None:
    changes = relative_change(entry.scores, reference.mean(0), found.higher)
    entry.deltas = delta_m(changes, found.task_of)
    finished = entry.scores[np.isfinite(entry.deltas)]
    if len(finished):
        entry.changes = relative_change(finished.mean(0), reference.mean(0), found.higher)
        entry.flat = float(delta_m_flat(entry.changes))
        entry.delta = bootstrap_delta_m(finished, reference, found.higher, found.task_of)


def _estimate(column: Array) -> Estimate | None:
    finite = column[np.isfinite(column)]
    return mean_interval(finite) if len(finite) else None


def _rank(entries: Sequence[ArmFindings], found: Measurements) -> None:
    """Ranks over the seeds that every ranked arm finished; an arm with a gap is not ranked."""
    whole = [entry for entry in entries if np.isfinite(entry.scores).all()]
    if len(whole) > 1:
        ranks = mean_rank(np.stack([entry.scores for entry in whole]), found.higher)
        for entry, rank in zip(whole, ranks, strict=True):
            entry.rank = float(rank)


def _compare(entries: Sequence[ArmFindings]) -> None:
    """Paired differences; each baseline's comparisons are one family for Holm's correction."""
    for name in BASELINES:
        baseline = next((each for each in entries if each.arm.label == name), None)
        if baseline is None:
            continue
        # RLW and EW meet once, in the family of EW.
        others = [
            each for each in entries if each.arm.label not in BASELINES[: BASELINES.index(name) + 1]
        ]
        if others:
            gaps = paired_differences(np.stack([each.deltas for each in others]), baseline.deltas)
            for each, gap in zip(others, gaps, strict=True):
                each.against[name] = gap


def _price(entries: Sequence[ArmFindings], found: Measurements) -> None:
    def costs(entry: ArmFindings) -> list[Stored | None]:
        stored = [None if trial is None else found.trials.get(trial.id) for trial in entry.trials]
        return [each if each and each.cost and each.status == "done" else None for each in stored]

    equal = next((each for each in entries if each.arm.label == "ew"), None)
    base = costs(equal) if equal else []
    for entry in entries:
        pairs = [
            (each.cost, other.cost if other else None)
            for each, other in zip(costs(entry), base or [None] * len(entry.trials), strict=False)
            if each and each.cost
        ]
        if not pairs:
            continue
        ratios = [own.step_ms / other.step_ms for own, other in pairs if other]
        own = [cost for cost, _ in pairs]
        entry.spent = Spent(
            step_ms=float(np.median([cost.step_ms for cost in own])),
            ratio=float(np.median(ratios)) if ratios else float("nan"),
            backwards=float(np.mean([cost.backwards / cost.steps for cost in own])),
            seconds=float(np.median([cost.seconds for cost in own])),
            samples=own[0].samples,
        )
