"""Changes against a reference, and their average over tasks.

Letters of the shapes: S runs of the reference, M metrics of all tasks, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# A percentage carries the relative error of its reference: at three spreads, a run of the reference that
# lies one spread off changes every percentage by a third, and nearer than that even its sign is not safe.
SPREADS = 3.0


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


def near_zero(reference: Array, floor: float | Array = 0.0) -> Mask:
    """Metrics whose reference is too near zero for a percentage of it to mean anything.

    That is where the mean of its runs is no larger than ``floor``, or smaller than three of their standard
    deviations. One run has no spread; then ``floor`` alone decides.

    Args:
        reference: runs of the reference, ``[S, M]``; runs with NaN in a metric are left out of it.
        floor: in the units of each metric, one number or ``[M]``. Scores whose zero is chance level, such
            as a correlation or R², have a meaningful one (0.1, say); 0 refuses exact zeros only.

    Returns:
        ``[M]``; False where every run is NaN.
    """
    known = np.isfinite(reference)
    runs = known.sum(0)
    mean = np.where(known, reference, 0.0).sum(0) / np.maximum(runs, 1)
    squares = (np.where(known, reference - mean, 0.0) ** 2).sum(0)
    spread = np.sqrt(squares / np.maximum(runs - 1, 1))
    return np.asarray((runs > 0) & ((np.abs(mean) <= floor) | (np.abs(mean) < SPREADS * spread)))


def change(
    scores: Array, reference: Array, higher_is_better: Mask, floor: float | Array = 0.0
) -> Change:
    """Change against the mean of a reference's runs: in percent, or plain where that mean is near zero.

    A plain difference enters a mean over metrics as the number it is, in the metric's own units: 0.05 of R²
    counts as much as 0.05 % elsewhere. Say which metrics are plain wherever such a mean is shown.

    Args:
        scores: ``[..., M]``.
        reference: ``[S, M]``.
        higher_is_better: ``[M]``.
        floor: as for :func:`near_zero`.
    """
    plain = near_zero(reference, floor)
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
