"""Runs against runs: permutation, probability of improvement, profiles.

Letters of the shapes: S runs, T tasks or problems, B draws.
"""

from __future__ import annotations

import numpy as np

from equipoise.study.statistics.deltas import Array
from equipoise.study.statistics.estimates import Estimate, expanded_percentiles

# 2^16 sign patterns are listed; more are drawn.
LISTED = 16


def sign_flip(gaps: Array, draws: int = 20_000, seed: int = 0) -> float:
    """Two-sided p value that paired differences are symmetric about 0, by flipping their signs.

    Exact up to 16 pairs. The smallest p value of n pairs is ``2 / 2**n``: five pairs cannot reach 0.05.

    Args:
        gaps: paired differences, ``[S]``.
        draws: B, for more than 16 pairs.
        seed: of the draws.

    Raises:
        ValueError: there are no pairs.
    """
    pairs = len(gaps)
    if not pairs:
        raise ValueError("a sign-flip test needs at least one pair")
    listed = pairs <= LISTED
    if listed:
        signs = 1.0 - 2.0 * (np.arange(2**pairs)[:, None] >> np.arange(pairs) & 1)
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, pairs))
    observed = abs(gaps.mean())
    as_large = np.abs(signs @ gaps) / pairs >= observed * (1 - 1e-12)
    if listed:
        return float(as_large.mean())
    return float((as_large.sum() + 1) / (draws + 1))


def probability_of_improvement(
    scores: Array, others: Array, draws: int = 4000, seed: int = 0
) -> Estimate:
    """Chance that a run of one arm beats a run of another on the same task, mean over tasks.

    Ties count half. Runs need not be paired. The interval is a bootstrap over runs, for each task and arm
    apart, with percentiles widened for few runs and cut at 0 and 1.

    Args:
        scores: higher is better, ``[S, T]``.
        others: ``[S', T]``.
        draws: B.
        seed: of the draws.

    References:
        Agarwal et al., *Deep Reinforcement Learning at the Edge of the Statistical Precipice*, NeurIPS
        2021, arXiv:2108.13264.
    """
    gaps = scores[:, None] - others[None]
    wins = (gaps > 0) + 0.5 * (gaps == 0)
    value, runs = float(wins.mean()), min(len(scores), len(others))
    if runs < 3:
        return Estimate(value, np.nan, np.nan, runs)
    random = np.random.default_rng(seed)
    tasks = scores.shape[1]
    resampled = np.zeros(draws)
    for task in range(tasks):
        rows = _multiplicities(random, draws, len(scores))
        columns = _multiplicities(random, draws, len(others))
        resampled += np.einsum("bi,ij,bj->b", rows, wins[..., task], columns) / tasks
    low, high = expanded_percentiles(resampled, runs)
    return Estimate(value, max(low, 0.0), min(high, 1.0), runs)


def _multiplicities(random: np.random.Generator, draws: int, runs: int) -> Array:
    """Share of each run in each bootstrap draw, ``[B, S]``."""
    return random.multinomial(runs, np.full(runs, 1 / runs), size=draws) / runs


def performance_profile(scores: Array, thresholds: Array) -> Array:
    """Share of runs above each threshold, mean over tasks.

    Args:
        scores: higher is better, on one scale, ``[S, T]``.
        thresholds: ``[K]``.

    Returns:
        ``[K]``.

    References:
        Agarwal et al., *Deep Reinforcement Learning at the Edge of the Statistical Precipice*, NeurIPS
        2021, arXiv:2108.13264.
    """
    return np.asarray((scores[..., None] > thresholds).mean(axis=(0, 1)))
