"""The same comparison by other yardsticks: do they agree, and does the order last?

Letters of the shapes: A arms, S seeds, M metrics of all tasks, T tasks or problems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from equipoise.study.findings import Findings
from equipoise.study.statistics import (
    Array,
    Estimate,
    bootstrap_iqm,
    change,
    mean_rank,
    performance_profile,
    probability_of_improvement,
    sign_flip,
    without_each_arm,
    without_each_task,
)

# Points of a profile.
POINTS = 60


@dataclass(frozen=True)
class Robust:
    """An arm by yardsticks that lean on no mean and on no normal distribution.

    Attributes:
        label: of the arm.
        iqm: interquartile mean of its change over all runs and tasks.
        chance: that one of its runs beats one of the baseline on a task; None for the baseline.
        flips: p value of the paired differences to the baseline by flipping their signs, uncorrected; NaN for
            the baseline, and where there are no pairs.
    """

    label: str
    iqm: Estimate
    chance: Estimate | None
    flips: float


@dataclass(frozen=True)
class Stability:
    """The order of the arms when one thing is left out.

    Attributes:
        kind: ``"task"``, ``"problem"`` or ``"method"``.
        left_out: its name.
        tau: Kendall's tau with the whole order: 1 where it stays.
        best: the best arm then: by Delta_m without a task or problem, by mean rank without a method.
    """

    kind: str
    left_out: str
    tau: float
    best: str


def runs_of(found: Findings) -> dict[str, Array]:
    """The change of every task in every finished run, ``[S, T]`` by label; without those of lost runs."""
    if not len(found.whole):
        return {}
    values = {}
    task_of = found.found.task_of
    for each in found.arms:
        own = change(each.scores, found.whole, found.found.higher, found.plain).values
        by_task = np.stack([own[:, task_of == t].mean(1) for t in np.unique(task_of)], axis=1)
        finished = by_task[np.isfinite(by_task).all(1)]
        if len(finished):
            values[each.arm.label] = finished
    return values


def robust_of(found: Findings) -> list[Robust]:
    """Every arm of a study against its first baseline."""
    baseline = found.baselines[0] if found.baselines else ""
    deltas = {each.arm.label: each.deltas for each in found.arms}
    return robust(runs_of(found), deltas, baseline)


def robust(values: Mapping[str, Array], pairs: Mapping[str, Array], baseline: str) -> list[Robust]:
    """Every arm against a baseline.

    Args:
        values: of every arm, ``[S, T]``, higher is better.
        pairs: what is paired between arms: Delta_m by seed, or by problem; NaN for a gap.
        baseline: label of an arm.
    """
    told = []
    for label, own in values.items():
        other = label != baseline and baseline in values
        gaps = pairs[label] - pairs[baseline] if other else np.array([])
        gaps = gaps[np.isfinite(gaps)]
        told.append(
            Robust(
                label=label,
                iqm=bootstrap_iqm(own),
                chance=probability_of_improvement(own, values[baseline]) if other else None,
                flips=sign_flip(gaps) if len(gaps) else float("nan"),
            )
        )
    return told


def profiles(values: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
    """The share of each arm's runs above each of some thresholds, mean over tasks.

    Returns:
        The thresholds, from where all but a twentieth of the runs lie above to where none does; the shares of
        each arm.
    """
    every = np.concatenate([own.ravel() for own in values.values()])
    thresholds = np.linspace(np.quantile(every, 0.05), every.max(), POINTS)
    return thresholds, {
        label: performance_profile(own, thresholds) for label, own in values.items()
    }


def stability_of(found: Findings) -> list[Stability]:
    """The order of a study's arms with each task, and with each arm, left out."""
    whole = [each for each in found.arms if each.complete and np.isfinite(each.scores).all()]
    if len(whole) < 2 or not len(found.whole):
        return []
    labels = [each.arm.label for each in whole]
    scores = np.stack([each.scores for each in whole])
    changes = np.stack([each.changes for each in whole])
    tasks = ("task", list(found.single))
    return stability(labels, changes, found.found.task_of, tasks, scores, found.found.higher)


def stability(
    labels: Sequence[str],
    changes: Array,
    group_of: NDArray[np.int64],
    groups: tuple[str, Sequence[str]],
    scores: Array,
    higher: NDArray[np.bool_],
) -> list[Stability]:
    """The order of arms with each group, and with each arm, left out.

    Args:
        labels: of the arms.
        changes: ``[A, M]``, higher is better.
        group_of: the task, or problem, of each column, ``[M]``.
        groups: what groups are, and their names.
        scores: ``[A, S, M]``, by which mean ranks are taken; these depend on who takes part.
        higher: whether higher is better, ``[M]``.
    """
    told = []
    kind, names = groups
    if len(names) > 1:
        places, tau = without_each_task(changes, group_of)
        best = [labels[int(each.argmin())] for each in places]
        told += [Stability(kind, *each) for each in zip(names, map(float, tau), best, strict=True)]
    if len(labels) > 3:
        tau = without_each_arm(scores, higher)
        for arm, label in enumerate(labels):
            others = [each for each in labels if each != label]
            first = others[int(mean_rank(np.delete(scores, arm, axis=0), higher).argmin())]
            told.append(Stability("method", label, float(tau[arm]), first))
    return told
