"""Changes against a reference, and their average over tasks.

Letters of the shapes: S runs of the reference, M metrics of all tasks, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# A percentage carries the relative error of its reference: at three spreads, a run of the reference that
# lies one spread off changes every percentage by a third, and nearer than that even its sign is not safe.
SPREADS = 3.0
# Runs whose own spread is trusted.
ENOUGH = 5


@dataclass(frozen=True)
class Change:
    """Changes against a reference, positive where better.

    Attributes:
        values: ``[..., M]``, in percent of the reference, or in the metric's own units where ``plain``.
        plain: metrics whose reference is near zero, ``[M]``: their change is a plain difference.
    """

    values: Array
    plain: Mask


def relative_change(
    scores: Array,
    reference: Array,
    higher_is_better: Mask,
    names: Sequence[str] | None = None,
) -> Array:
    r"""Change against a reference in percent of it, positive where better.

    .. math:: 100 \, s_m (x_m - r_m) / |r_m|, \quad s_m = \pm 1

    Args:
        scores: ``[..., M]``.
        reference: ``[..., M]``, not zero.
        higher_is_better: ``[M]``.
        names: of the metrics, M long, for the message of an error.

    Returns:
        ``[..., M]``.

    Raises:
        ValueError: a reference is zero, of which there is no percentage.
    """
    zero = np.flatnonzero(np.any(np.atleast_2d(reference == 0), axis=0))
    if len(zero):
        known = (
            names
            if names is not None
            else [f"metric {place}" for place in range(reference.shape[-1])]
        )
        raise ValueError(
            f"the reference of {', '.join(known[int(place)] for place in zero)} is exactly 0, so that no "
            f"change relative to it exists; 'change' takes plain differences there"
        )
    return _changes(scores, reference, higher_is_better, np.zeros(reference.shape[-1], dtype=bool))


def near_zero(
    reference: Array, floor: float | Array = float("nan"), usual: Array | None = None
) -> Mask:
    """Metrics whose reference is too near zero for a percentage of it to mean anything.

    That is where the mean of its runs is exactly 0, or smaller than three standard deviations of a run. The
    deviation is that of the reference's own runs where there are five or more; that of fewer is known too
    badly, and the usual one of all arms takes its place. Where a floor is given it decides alone.

    Args:
        reference: runs of the reference, ``[S, M]``; runs with NaN in a metric are left out of it.
        floor: the size up to which a mean counts as near zero, in the units of each metric: one number or
            ``[M]``, NaN where none is given. Scores whose zero is chance level, such as a correlation or R²,
            have a meaningful one (0.1, say); 0 takes percentages of all that is not exactly 0.
        usual: the spread of a run that is usual among arms, ``[M]``, as :func:`usual_spread` has it; NaN
            where it is not known. Then, or without it, the runs of the reference have to do.

    Returns:
        ``[M]``; False where every run is NaN.
    """
    known = np.isfinite(reference)
    runs = known.sum(0)
    mean = np.where(known, reference, 0.0).sum(0) / np.maximum(runs, 1)
    squares = (np.where(known, reference - mean, 0.0) ** 2).sum(0)
    spread = np.sqrt(squares / np.maximum(runs - 1, 1))
    if usual is not None:
        spread = np.where((runs < ENOUGH) & np.isfinite(usual), usual, spread)
    floors = np.broadcast_to(np.asarray(floor, dtype=float), mean.shape)
    size = np.abs(mean)
    near = np.where(np.isnan(floors), (size == 0) | (size < SPREADS * spread), size <= floors)
    return np.asarray((runs > 0) & near)


def usual_spread(arms: Sequence[Array]) -> Array:
    r"""The spread between the runs of an arm that is usual among arms, by metric.

    .. math:: \sqrt{\operatorname{median}_a \; s_a^2 \, / \, m_{n_a - 1}}, \quad
        m_d \text{ the median of } \chi^2_d / d

    As a median it does not follow an arm that is much noisier than the others.

    Args:
        arms: runs of each, ``[S, M]``; NaN where a run does not have a metric.

    Returns:
        ``[M]``; NaN where no arm has two runs.
    """
    variances = []
    for runs in arms:
        known = np.isfinite(runs)
        df = known.sum(0) - 1
        mean = np.where(known, runs, 0.0).sum(0) / np.maximum(df + 1, 1)
        squares = (np.where(known, runs - mean, 0.0) ** 2).sum(0)
        # The median of squares over the variance: freed from bias by it.
        variances.append(
            np.where(df >= 1, squares / stats.chi2.ppf(0.5, np.maximum(df, 1)), np.nan)
        )
    whole = np.array(variances)
    found = np.full(whole.shape[1:], np.nan)
    there = np.isfinite(whole).any(0)
    found[there] = np.sqrt(np.nanmedian(whole[:, there], axis=0))
    return found


def change(
    scores: Array, reference: Array, higher_is_better: Mask, plain: Mask | None = None
) -> Change:
    """Change against the mean of a reference's runs: in percent, or plain where that mean is near zero.

    A plain difference enters a mean over metrics as the number it is, in the metric's own units: 0.05 of R²
    counts as much as 0.05 % elsewhere. Say which metrics are plain wherever such a mean is shown.

    Args:
        scores: ``[..., M]``.
        reference: ``[S, M]``.
        higher_is_better: ``[M]``.
        plain: metrics whose change is a plain difference, ``[M]``; None takes those that :func:`near_zero`
            finds by the reference alone.
    """
    plain = near_zero(reference) if plain is None else plain
    return Change(_changes(scores, reference.mean(0), higher_is_better, plain), plain)


def _changes(scores: Array, reference: Array, higher_is_better: Mask, plain: Mask) -> Array:
    """Changes against one reference ``[..., M]``, plain where said."""
    sign = np.where(higher_is_better, 1.0, -1.0)
    unit = np.where(plain, 1.0, np.abs(reference) / 100)
    return np.asarray(sign * (scores - reference) / unit)


def delta_m(changes: Array, task_of: NDArray[np.int64]) -> Array:
    """Delta_m, averaged over the metrics of a task first and then over tasks; higher is better.

    The reference is whatever the changes were taken against: single-task networks, or equal weights.

    Args:
        changes: relative changes ``[..., M]``.
        task_of: the task of each metric, ``[M]``, as numbers from 0.

    Returns:
        ``[...]``.
    """
    tasks = np.unique(task_of)
    means = [changes[..., task_of == task].mean(-1) for task in tasks]
    return np.asarray(np.mean(means, axis=0))


def delta_m_flat(changes: Array) -> Array:
    """Delta_m as the plain mean over all metrics; tasks with more metrics count more.

    Args:
        changes: relative changes ``[..., M]``.

    Returns:
        ``[...]``.
    """
    return np.asarray(changes.mean(-1))
