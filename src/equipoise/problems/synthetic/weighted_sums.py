"""How far losses lie above everything that weighted sums of losses reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

Array = NDArray[np.float64]
# From weights on the simplex, [K], to the losses, [K], that minimise their weighted sum.
Minimiser = Callable[[Array], Array]
ROUNDS = 60


class Excess(NamedTuple):
    """How far losses lie above the minima of weighted sums.

    Attributes:
        low: a bound from below; positive: no weights whatever have these losses as a minimum.
        high: a bound from above, which ``weights`` attain.
        weights: with which the losses come closest to a minimum, ``[K]``.
    """

    low: float
    high: float
    weights: Array


def excess(
    losses: Array, minimiser: Minimiser, known: Array | None = None, tolerance: float = 1e-6
) -> Excess:
    r"""How far losses lie above the minima of weighted sums.

    .. math:: \min_{w \in \Delta} \; \max_y \; w^\top (\ell - L(y))

    It is zero where some weights have the losses as a minimum of their weighted sum. By duality it is also
    how much every loss could fall at once, if mixtures of attainable losses were attainable: for convex
    losses it is zero on the Pareto front and nowhere else; for others it is positive too on those parts of
    the front that no weights reach.

    It is found by cutting planes: a linear program over the minima that are known, to which the minimum at
    its solution is added, until both bounds meet.

    Args:
        losses: ``[K]``.
        minimiser: of weighted sums.
        known: losses that are attainable, ``[N, K]``, to begin with; None begins with the minimum at equal
            weights.
        tolerance: distance of the two bounds.
    """
    tasks = len(losses)
    equal = np.full(tasks, 1 / tasks)
    cuts = minimiser(equal)[None] if known is None else known
    # The epigraph: weights, and a number above w @ (losses - cut) for every cut.
    cost = np.append(np.zeros(tasks), 1.0)
    simplex = np.append(np.ones(tasks), 0.0)[None]
    bounds = [(0.0, 1.0)] * tasks + [(None, None)]
    best = Excess(-np.inf, np.inf, equal)
    for _ in range(ROUNDS):
        rows = np.column_stack([losses - cuts, -np.ones(len(cuts))])
        solved = linprog(cost, rows, np.zeros(len(cuts)), simplex, [1.0], bounds)
        weights = np.clip(solved.x[:tasks], 0.0, None)
        weights /= weights.sum()
        cut = minimiser(weights)
        high = float(weights @ (losses - cut))
        if high < best.high:
            best = best._replace(high=high, weights=weights)
        best = best._replace(low=min(float(solved.fun), best.high))
        if best.high - best.low <= tolerance:
            break
        cuts = np.concatenate([cuts, cut[None]])
    return best
