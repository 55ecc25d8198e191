"""Tuned fixed weights: the baseline that every method has to beat."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from equipoise.study.spaces import Axes, Candidate

FIXED = "fixed weights (tuned)"
# Exponents of the family that comes first: each loss to this power is made 1; 1 makes all losses equal.
POWERS = (1.0, 0.5, 0.0)
# How far beyond that family, as a factor, random weights may lie.
BEYOND = 3.0
FAMILY = (
    "weights proportional to (loss before training)^-a for a = 1, 1/2 and 0, each learning rate with another "
    "a, from the middle one outwards; after that log-uniform draws within three times that range"
)
SIMPLEX = (
    "every vector of positive weights that sum to 1, in steps of {step:g}, and equal weights, each with "
    "every setting"
)
BY_LOSS = (
    "every share of the tasks in the total loss before training, in steps of {step:g}, with every setting: "
    "weights proportional to share / (loss before training); and equal weights"
)


def family(losses: Sequence[float], axes: Axes) -> list[Candidate]:
    """As many candidates as there are rates and decays: the budget of an arm without options.

    Args:
        losses: before training, K of them.
        axes: rates and decays, as lists.
    """
    rates = sorted({each.learning_rate for each in axes.listed()})
    decays = dict.fromkeys(each.weight_decay for each in axes.listed())
    middle = rates[(len(rates) - 1) // 2]
    central = sorted(rates, key=lambda rate: (round(abs(math.log(rate / middle)), 6), -rate))
    sizes = _sizes(losses)
    draws = _log_uniform(sizes, np.random.default_rng(2209))
    # Every rate with another member of the family, then with the next one: both are covered from the start.
    waiting = [
        (rate, _rounded(sizes ** -POWERS[(number + turn) % len(POWERS)]))
        for turn in range(len(POWERS))
        for number, rate in enumerate(central)
    ]
    made: list[tuple[float, list[float]]] = []
    while len(made) < len(rates):
        point = (
            waiting.pop(0)
            if waiting
            else (central[len(made) % len(central)], _rounded(next(draws)))
        )
        # Losses of one size make the whole family one.
        if point not in made:
            made.append(point)
    return [axes.at(rate, decay, weights=weights) for decay in decays for rate, weights in made]


def weights_drawn(losses: Sequence[float], random: np.random.Generator) -> Iterator[list[float]]:
    """The family, then log-uniform weights: for a random search."""
    sizes = _sizes(losses)
    yield from (_rounded(sizes**-power) for power in POWERS)
    yield from map(_rounded, _log_uniform(sizes, random))


def simplex(losses: Sequence[float], axes: Axes, step: float, by_loss: bool) -> list[Candidate]:
    """Every vector of positive weights on a grid, with every rate and decay.

    Args:
        losses: before training, K of them.
        axes: rates and decays, as lists.
        step: of the grid; 0.1 makes 9 vectors for two tasks, 36 for three; equal weights are tried too.
        by_loss: whether grid points are shares of the total loss before training, and not weights.

    Raises:
        ValueError: the step is too wide, or the grid would have more than 10,000 points.
    """
    parts = round(1 / step)
    if abs(step * parts - 1) > 0.01:
        near = f"{1 / parts:.4g} or {1 / (parts + 1):.4g}"
        raise ValueError(f"weight_step = {step:g} does not divide 1: take 1/n, such as {near}")
    count = math.comb(parts - 1, len(losses) - 1)
    if not 1 <= count <= 10_000:
        way = "smaller" if count < 1 else "larger"
        raise ValueError(
            f"weight_step = {step:g} makes {count:,} vectors of weights for {len(losses)} tasks; brute force "
            f"is for few tasks: take a {way} step, fewer tasks, or the protocol 'litmus'"
        )
    grid = [np.array(point) / parts for point in _compositions(parts, len(losses))]
    if by_loss:
        grid = [share / _sizes(losses) for share in grid]
    grid.append(np.ones(len(losses)))
    vectors = list(dict.fromkeys(tuple(_rounded(each)) for each in grid))
    return [
        axes.at(each.learning_rate, each.weight_decay, weights=list(vector))
        for vector, each in product(vectors, axes.listed())
    ]


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Positive whole numbers with this sum."""
    if parts == 1:
        yield (total,)
        return
    for first in range(1, total - parts + 2):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)


def _sizes(losses: Sequence[float]) -> np.ndarray[Any, Any]:
    # A loss may be negative or 0: only its size counts.
    return np.asarray(np.maximum(np.abs(np.asarray(losses, dtype=float)), 1e-12))


def _log_uniform(
    sizes: np.ndarray[Any, Any], random: np.random.Generator
) -> Iterator[np.ndarray[Any, Any]]:
    high = np.log(sizes.max() / sizes) + math.log(BEYOND)
    while True:
        yield np.exp(random.uniform(-math.log(BEYOND), high))


def _rounded(weights: np.ndarray[Any, Any]) -> list[float]:
    """Weights whose mean is 1, to three digits, so that a report shows what was used."""
    return [float(f"{w:.3g}") for w in weights / weights.mean()]
