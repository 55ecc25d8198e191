"""What the size of the network changes: the whole comparison at every setting of a sweep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.study.analyses.front import Front, fronts
from equipoise.study.findings import Findings, findings
from equipoise.study.fixed import FIXED
from equipoise.study.statistics import Estimate, additive_epsilon
from equipoise.study.store import Store

DRAWS = 1000


@dataclass(frozen=True)
class Size:
    """A study at one setting of what it sweeps.

    Attributes:
        setting: such as ``"width = 64"``.
        deltas: Delta_m against the single-task networks of that setting, by label.
        spread: standard deviation of Delta_m between methods, fixed weights and frozen ones left out, with a
            bootstrap interval over seeds; the noise of seeds is taken off.
        epsilon: by kind of numbers, what would have to be taken off every value of this setting's front of
            fixed weights so that it weakly dominates that of the setting before, as a share of that front's
            extent; 0 or less where it dominates it. Empty for the first setting.
    """

    setting: str
    deltas: dict[str, Estimate]
    spread: Estimate
    epsilon: dict[str, float]


def sizes(store: Store, main: Findings) -> list[Size]:
    """A study at every setting of its sweep; empty where it sweeps nothing.

    Args:
        store: its trials.
        main: the findings at its main setting.
    """
    settings = list(found_settings(main))
    told: list[Size] = []
    before: list[Front] = []
    for name in settings:
        found = findings(store, setting=name)
        here = fronts(found)
        epsilon: dict[str, float] = {
            one.kind: _epsilon(one, two)
            for one in here
            for two in before
            if one.kind == two.kind and one.on.any() and two.on.any()
        }
        deltas = {each.arm.label: each.delta for each in found.arms}
        told.append(Size(name, deltas, _spread(found), epsilon))
        before = here
    return told


def found_settings(main: Findings) -> tuple[str, ...]:
    """The settings of a study's sweep; none where it sweeps nothing."""
    return main.settings if len(main.settings) > 1 else ()


def _spread(found: Findings) -> Estimate:
    rows = [e.deltas for e in found.arms if e.arm.label != FIXED and e.complete]
    if len(rows) < 2:
        return Estimate(np.nan, np.nan, np.nan, 0)
    values = np.stack(rows)  # [M, S]
    random = np.random.default_rng(2209)
    seeds = values.shape[1]
    draws = [_between(values[:, random.integers(0, seeds, seeds)]) for _ in range(DRAWS)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(_between(values), float(low), float(high), seeds)


def _between(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Standard deviation between methods, less what the noise of seeds makes of it by itself."""
    raw = values.mean(1).var(ddof=1)
    if values.shape[1] > 1:
        # Seeds are paired: what all methods share is no difference between them.
        own = values - values.mean(0, keepdims=True)
        raw -= own.var(axis=1, ddof=1).mean() / values.shape[1]
    return float(np.sqrt(max(raw, 0.0)))


def _epsilon(one: Front, two: Front) -> float:
    sign = np.where(one.higher, -1.0, 1.0)
    here, there = (
        sign * np.stack([p.mean for p, on in zip(each.points, each.on, strict=True) if on])
        for each in (one, two)
    )
    extent = np.ptp(there, axis=0)
    extent = np.where(extent > 0, extent, 1.0)
    return additive_epsilon(here / extent, there / extent)
