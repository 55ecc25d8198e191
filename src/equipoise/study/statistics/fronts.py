"""Sets of trade-offs: how much they dominate, and how far apart two of them lie.

Lower is better in every objective. Letters of the shapes: N points, R points of a reference, K objectives,
C candidates, S seeds.
The computations are those of moocore.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from equipoise.study.statistics.deltas import Array, Mask
from equipoise.study.statistics.moderation import FEWEST_PAIRS, ROUNDING

# moocore is loaded where it is used: it takes longer to load than all that most studies ask of it.


def front(points: Array) -> Mask:
    """Which of ``[N, K]`` no other point dominates; of equal points all or none, ``[N]``."""
    if not len(points):
        return np.zeros(0, dtype=bool)
    import moocore

    return np.asarray(moocore.is_nondominated(points, keep_weakly=True))


def hypervolume(points: Array, reference: Array) -> float:
    """Volume that a set dominates below a reference point.

    Args:
        points: ``[N, K]``; those not below the reference in every objective add nothing.
        reference: ``[K]``.

    References:
        Zitzler and Thiele, *Multiobjective Evolutionary Algorithms: A Comparative Case Study and the
        Strength Pareto Approach*, IEEE Trans. Evol. Comput. 1999.
    """
    import moocore

    inside = points[(points < reference).all(-1)]
    return float(moocore.hypervolume(inside, ref=reference)) if len(inside) else 0.0


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
    import moocore

    return float(moocore.epsilon_additive(points, ref=reference))


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
    import moocore

    return float(moocore.igd_plus(points, ref=reference))


def dominated(own: Array, candidates: Array) -> float:
    """P value that some candidate is at least as good as a method in every objective.

    Args:
        own: of the method, ``[S, K]``, lower is better.
        candidates: ``[C, S, K]``.

    Returns:
        NaN below three seeds.
    """
    seeds, tasks = own.shape
    if seeds < FEWEST_PAIRS:
        return float("nan")
    gaps = candidates - own[None]  # positive where the method is better
    mean = gaps.mean(1)
    squares = ((gaps - mean[:, None]) ** 2).sum(1)
    p = np.empty_like(mean)
    for k in range(tasks):
        # All gaps share the method's noise, so that none has a spread to borrow from the others.
        rounding = seeds * (ROUNDING * np.abs(candidates[..., k]).max()) ** 2
        spread = np.sqrt(squares[:, k] / (seeds - 1) / seeds)
        with np.errstate(invalid="ignore", divide="ignore"):
            own_p = stats.t.sf(mean[:, k] / spread, seeds - 1)
        # Without any spread nothing is known.
        p[:, k] = np.where(squares[:, k] <= rounding, 1.0, own_p)
    return float(np.minimum(tasks * p.min(1), 1.0).max())
