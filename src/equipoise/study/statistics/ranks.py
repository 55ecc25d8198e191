"""Ranks: of arms over seeds and metrics, over problems, and whether they last.

Letters of the shapes: A arms, S seeds, M metrics of all tasks, P problems.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from equipoise.study.statistics.deltas import Array, Mask


def mean_rank(scores: Array, higher_is_better: Mask) -> Array:
    """Mean over seeds and metrics of an arm's rank among the arms; 1 is best, ties share their mean.

    Args:
        scores: ``[A, S, M]`` without gaps.
        higher_is_better: ``[M]``.

    Returns:
        ``[A]``.
    """
    best_first = np.where(higher_is_better, -scores, scores)
    return np.asarray(stats.rankdata(best_first, axis=0).mean(axis=(1, 2)))


@dataclass(frozen=True)
class Friedman:
    """Ranks of arms over problems.

    Attributes:
        ranks: mean rank over problems, 1 is best, ``[A]``.
        p: that all arms rank alike (Friedman's chi-squared, with ties).
        critical: two mean ranks further apart than this differ (Nemenyi).
        problems: P.
        seeds: runs behind each problem's score.
    """

    ranks: Array
    p: float
    critical: float
    problems: int
    seeds: int


def friedman(scores: Array, problems: int, seeds: int, level: float = 0.05) -> Friedman:
    r"""Friedman's test over problems, and Nemenyi's critical difference of mean ranks.

    .. math:: \mathrm{CD} = \frac{q_{\alpha}}{\sqrt 2} \sqrt{\frac{A (A + 1)}{6 P}}

    The unit is a problem: its seeds are averaged first, since runs of one problem are no new problems. More
    seeds make a problem's ranks steadier; they do not make the critical difference smaller.

    Args:
        scores: higher is better, ``[A, P, S]``.
        problems: P, at least 2.
        seeds: S.
        level: of the critical difference.

    Raises:
        ValueError: ``scores`` has another shape, fewer than three arms or fewer than two problems.

    References:
        Demšar, *Statistical Comparisons of Classifiers over Multiple Data Sets*, JMLR 2006.
    """
    if scores.shape[1:] != (problems, seeds):
        raise ValueError(
            f"scores of shape {scores.shape} do not hold {problems} problems with {seeds} seeds each; the "
            f"shape is (arms, problems, seeds)"
        )
    arms = len(scores)
    if arms < 3 or problems < 2:
        raise ValueError(
            f"ranks over problems need three arms and two problems, not {arms} and {problems}"
        )
    means = scores.mean(-1)
    ranks = stats.rankdata(-means, axis=0).mean(-1)
    p = 1.0 if np.ptp(ranks) == 0 else float(stats.friedmanchisquare(*means).pvalue)
    q = float(stats.studentized_range.isf(level, arms, np.inf)) / np.sqrt(2)
    critical = q * np.sqrt(arms * (arms + 1) / (6 * problems))
    return Friedman(np.asarray(ranks), p, float(critical), problems, seeds)


def without_each_task(
    changes: Array, task_of: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Array]:
    """Places of the arms by Delta_m when one task is left out, and Kendall's tau with the full order.

    Args:
        changes: of each arm, ``[A, M]``, higher is better.
        task_of: ``[M]``; two tasks at least.

    Returns:
        Places ``[T, A]`` (1 is best) and tau ``[T]``.
    """
    tasks = np.unique(task_of)
    of_task = np.stack([changes[:, task_of == task].mean(-1) for task in tasks])
    full = of_task.mean(0)
    left = np.stack([np.delete(of_task, task, axis=0).mean(0) for task in range(len(tasks))])
    places = stats.rankdata(-left, axis=1, method="min").astype(np.int64)
    tau = np.array([stats.kendalltau(full, each).statistic for each in left])
    return places, tau


def without_each_arm(scores: Array, higher_is_better: Mask) -> Array:
    """Kendall's tau of the arms' mean ranks with and without one of them.

    Mean ranks depend on who else takes part; Delta_m does not.

    Args:
        scores: ``[A, S, M]``; four arms at least, so that three are left to be ordered.
        higher_is_better: ``[M]``.

    Returns:
        ``[A]``, by the arm that is left out.
    """
    full = mean_rank(scores, higher_is_better)
    tau = [
        stats.kendalltau(
            np.delete(full, arm), mean_rank(np.delete(scores, arm, axis=0), higher_is_better)
        ).statistic
        for arm in range(len(scores))
    ]
    return np.array(tau)
