"""Tuned fixed weights: the baseline that every method has to beat, searched with the budget of the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

FIXED = "fixed weights (tuned)"
# Exponents of the family that comes first: each loss to this power is made 1; 1 makes all losses equal.
POWERS = (1.0, 0.5, 0.0)
# How far beyond that family, as a factor, random weights may lie.
BEYOND = 3.0
HOW = (
    "weights proportional to (loss before training)^-a for a = 1, 1/2 and 0, each learning rate with another "
    "a, from the middle one outwards; after that log-uniform draws within three times that range"
)


def candidates_of(
    losses: Sequence[float], rates: Sequence[float]
) -> list[tuple[float, Mapping[str, Any]]]:
    """As many learning rates with weights as there are learning rates: the budget of every other arm.

    Args:
        losses: before training, K of them.
        rates: of the study.
    """
    # A loss may be negative or 0: only its size counts.
    sizes = np.maximum(np.abs(np.asarray(losses, dtype=float)), 1e-12)
    middle = sorted(rates)[(len(rates) - 1) // 2]
    central = sorted(rates, key=lambda rate: (round(abs(math.log(rate / middle)), 6), -rate))
    draws = _draws(sizes)
    # Every rate with another member of the family, then with the next one: both are covered from the start.
    family = [
        (rate, _rounded(sizes ** -POWERS[(number + turn) % len(POWERS)]))
        for turn in range(len(POWERS))
        for number, rate in enumerate(central)
    ]
    made: list[tuple[float, Mapping[str, Any]]] = []
    while len(made) < len(rates):
        rate, weights = (
            family.pop(0) if family else (central[len(made) % len(central)], _rounded(next(draws)))
        )
        # Losses of one size make the whole family one.
        if (rate, {"weights": weights}) not in made:
            made.append((rate, {"weights": weights}))
    return made


def _draws(sizes: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    random = np.random.default_rng(2209)
    high = np.log(sizes.max() / sizes) + math.log(BEYOND)
    while True:
        yield np.exp(random.uniform(-math.log(BEYOND), high))


def _rounded(weights: np.ndarray[Any, Any]) -> list[float]:
    """Weights whose mean is 1, to three digits, so that a report shows what was used."""
    return [float(f"{w:.3g}") for w in weights / weights.mean()]
