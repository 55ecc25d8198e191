"""What the size of the network changes: the whole comparison at every setting of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.study.analyses.front import Front, fronts
from equipoise.study.findings import Findings, findings
from equipoise.study.fixed import FIXED
from equipoise.study.statistics import Estimate, additive_epsilon
from equipoise.study.store import Store


@dataclass(frozen=True)
class Size:
    """A study at one setting of what it sweeps.

    Attributes:
        setting: such as ``"width = 64"``.
        deltas: Delta_m against the single-task networks of that setting, by label.
        spread: standard deviation of Delta_m between methods, fixed weights and frozen ones left out; the
            noise of seeds is taken off.
        epsilon: by kind of numbers, what would have to be taken off every value of this setting's front of
            fixed weights so that it weakly dominates that of the setting before, as a share of that front's
            extent; 0 or less where it dominates it. Empty for the first setting.
    """

    setting: str
    deltas: dict[str, Estimate]
    spread: float
    epsilon: dict[str, float]


def sizes(store: Store, main: Findings, seen: Sequence[Front]) -> list[Size]:
    """A study at every setting of its sweep; empty where it sweeps nothing.

    Args:
        store: its trials.
        main: the findings at its main setting.
        seen: the fronts there.
    """
    settings = main.settings if len(main.settings) > 1 else ()
    told: list[Size] = []
    before: list[Front] = []
    for name in settings:
        first = name == settings[0]
        found = main if first else findings(store, setting=name)
        here = list(seen) if first else fronts(found) if found.brute_force else []
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


def _spread(found: Findings) -> float:
    rows = [e.deltas for e in found.arms if e.arm.label != FIXED and e.complete]
    return _between(np.stack(rows)) if len(rows) > 1 else float("nan")


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
