"""Sets of trade-offs: how much they dominate, and how far apart two of them lie.

Lower is better in every objective. Letters of the shapes: N points, R points of a reference, K objectives.
"""

from __future__ import annotations

import numpy as np

from equipoise.study.statistics.deltas import Array, Mask


def front(points: Array) -> Mask:
    """Which of ``[N, K]`` no other point dominates; of equal points all or none, ``[N]``."""
    no_worse = (points[:, None] <= points[None]).all(-1)
    better = (points[:, None] < points[None]).any(-1)
    return np.asarray(~(no_worse & better).any(0))


def hypervolume(points: Array, reference: Array) -> float:
    """Volume that a set dominates below a reference point.

    Exact, slice by slice along the last objective; meant for tens of points in few objectives.

    Args:
        points: ``[N, K]``; those not below the reference in every objective add nothing.
        reference: ``[K]``.

    References:
        Zitzler and Thiele, *Multiobjective Evolutionary Algorithms: A Comparative Case Study and the
        Strength Pareto Approach*, IEEE Trans. Evol. Comput. 1999.
    """
    inside = points[(points < reference).all(-1)]
    if not len(inside):
        return 0.0
    inside = np.unique(inside[front(inside)], axis=0)
    if len(reference) == 1:
        return float(reference[0] - inside.min())
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    ends = np.append(inside[1:, -1], reference[-1])
    heights = ends - inside[:, -1]
    return float(
        sum(
            height * hypervolume(inside[: count + 1, :-1], reference[:-1])
            for count, height in enumerate(heights)
            if height > 0
        )
    )


def additive_epsilon(points: Array, reference: Array) -> float:
    r"""What must be taken off every objective of a set so that it weakly dominates the reference.

    .. math:: \max_r \min_x \max_k (x_k - r_k)

    Args:
        points: ``[N, K]``.
        reference: ``[R, K]``.

    References:
        Zitzler et al., *Performance Assessment of Multiobjective Optimizers*, IEEE Trans. Evol. Comput.
        2003.
    """
    return float((points[:, None] - reference[None]).max(-1).min(0).max())


def igd_plus(points: Array, reference: Array) -> float:
    r"""Mean distance from the reference to what the set dominates (IGD+).

    .. math:: \frac1R \sum_r \min_x \lVert \max(x - r, 0) \rVert

    Args:
        points: ``[N, K]``.
        reference: ``[R, K]``.

    References:
        Ishibuchi et al., *Modified Distance Calculation in Generational Distance and Inverted Generational
        Distance*, EMO 2015.
    """
    short = np.maximum(points[:, None] - reference[None], 0.0)
    return float(np.linalg.norm(short, axis=-1).min(0).mean())
