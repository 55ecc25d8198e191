"""What a study could have shown, and how many seeds a difference needs."""

from __future__ import annotations

import math

from scipy import optimize, stats


def smallest_detectable(error: float, df: float, level: float, power: float = 0.8) -> float:
    """The true difference that a two-sided t test shows with this power, given its standard error.

    Args:
        error: standard error of the mean difference.
        df: degrees of freedom.
        level: of the single test, after correction (0.05 / 20, say).
        power: chance of showing it.

    Returns:
        NaN where the error or the level is unknown.
    """
    if not (math.isfinite(error) and math.isfinite(level) and df >= 1):
        return float("nan")
    critical = float(stats.t.isf(level / 2, df))

    def missing(shift: float) -> float:
        return float(stats.nct.sf(critical, df, shift)) - power

    upper = critical + 1.0
    while missing(upper) < 0:
        upper *= 2
    return error * float(optimize.brentq(missing, 0.0, upper, xtol=1e-6))


def seeds_needed(
    difference: float,
    spread: float,
    comparisons: int = 1,
    level: float = 0.05,
    power: float = 0.8,
    prior: float = 0.0,
    most: int = 100_000,
) -> int:
    """The number of paired seeds that shows a difference with this power.

    Args:
        difference: true difference, of either sign.
        spread: standard deviation of the paired difference of one seed.
        comparisons: in the family; the level is divided by them.
        level: of the family.
        power: chance of showing it.
        prior: degrees of freedom that moderation adds, 0 for none.
        most: where the search ends.

    Raises:
        ValueError: the difference is 0, or more than ``most`` seeds are needed.
    """
    if difference == 0:
        raise ValueError("a difference of 0 cannot be shown with any number of seeds")

    def enough(seeds: int) -> bool:
        error = spread / math.sqrt(seeds)
        found = smallest_detectable(error, seeds - 1 + prior, level / comparisons, power)
        return found <= abs(difference)

    low, high = 2, 3
    while not enough(high):
        if high >= most:
            raise ValueError(
                f"a difference of {difference:g} with a spread of {spread:g} needs more than {most} seeds"
            )
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
