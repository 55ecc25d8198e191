"""How much of what varies is due to what: a balanced factorial table, taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from equipoise.study.statistics.deltas import Array


def variance_shares(values: Array, factors: Sequence[str]) -> dict[tuple[str, ...], float]:
    """Share of the total sum of squares of every factor and every interaction; they add up to 1.

    For a table without gaps, in which every level of a factor meets every level of the others (learning
    rates x weight decays x methods x seeds, say). With one value a cell, the interaction of all factors is
    what is left over.

    Args:
        values: one axis a factor.
        factors: their names, in the order of the axes.

    Returns:
        Shares by the names that take part.

    Raises:
        ValueError: names do not match axes, the table has gaps, or nothing varies.
    """
    if len(factors) != values.ndim:
        raise ValueError(f"{len(factors)} factors were named for a table with {values.ndim} axes")
    if not np.isfinite(values).all():
        raise ValueError(
            f"{int((~np.isfinite(values)).sum())} cells of the table have no finite value; shares need a "
            f"value for every combination"
        )
    total = float(((values - values.mean()) ** 2).sum())
    if total == 0:
        raise ValueError("all values of the table are equal: there is no variance to share out")
    effects: dict[tuple[int, ...], Array] = {(): np.full((1,) * values.ndim, values.mean())}
    shares = {}
    for size in range(1, values.ndim + 1):
        for axes in combinations(range(values.ndim), size):
            others = tuple(axis for axis in range(values.ndim) if axis not in axes)
            means = values.mean(axis=others, keepdims=True)
            below = [effect for part, effect in effects.items() if set(part) < set(axes)]
            effects[axes] = np.asarray(means - sum(below))
            repeats = values.size // effects[axes].size
            squares = repeats * float((effects[axes] ** 2).sum())
            shares[tuple(factors[axis] for axis in axes)] = squares / total
    return shares
