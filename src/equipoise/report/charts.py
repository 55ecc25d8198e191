"""Every chart of a report, by section, each with a name and a title of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from altair.utils.schemapi import debug_mode

from equipoise.report import analyses, figures, panels, sweep, trade, tuning
from equipoise.report.analyses import NOTHING, Seen
from equipoise.report.fronts import front_chart, frozen_chart
from equipoise.report.look import MANY, Spec
from equipoise.report.robust import profile_chart
from equipoise.study import ArmFindings, Findings
from equipoise.study.analyses import runs_of

# Panels of arms that a section shows before the rest is folded away: of lines, and of maps.
PANELS, MAPS = 20, 4
# Tasks of which every pair is drawn.
PAIRED = 4
# Of many tasks, so many have their curves shown.
CURVES = 6


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        name: of files and places, unique in a report.
        title: what it shows, for those who see it alone.
        label: what it shows, under the heading of its section.
        spec: Vega-Lite, with the colours of the page by name.
        wide: whether it is a figure and not a panel.
        folded: whether the page shows it on demand only.
    """

    name: str
    title: str
    label: str
    spec: Spec
    wide: bool = False
    folded: bool = False


class Gallery:
    """Collects charts, and gives each a name of its own."""

    def __init__(self) -> None:
        self.sections: dict[str, list[Chart]] = {}
        self._names: set[str] = set()

    def add(
        self,
        section: str,
        spec: Spec | None,
        title: str,
        label: str = "",
        wide: bool = False,
        folded: bool = False,
    ) -> None:
        """Adds a chart; nothing where there is nothing to draw."""
        charts = self.sections.setdefault(section, [])
        if spec is None:
            return
        base = re.sub(r"[^a-z0-9]+", "-", f"{section} {label}".lower()).strip("-")[:60].strip("-")
        name, number = base, 1
        while name in self._names:
            number += 1
            name = f"{base}-{number}"
        self._names.add(name)
        charts.append(Chart(name, title, label, spec, wide, folded))


def gather(found: Findings, seen: Seen = NOTHING) -> dict[str, list[Chart]]:
    """The charts of a study by section.

    Sections: difference, delta-m, quality-cost, cost, curve, weights, cosines, norms, tuning; where the study
    has something to say of it front, frozen, sizes, variance, sparse and convergence.
    """
    # Altair checks every part of every chart against its schema, which takes most of the time of a report of
    # many tasks; the tests do that.
    with debug_mode(False):
        return _gathered(found, seen).sections


def _gathered(found: Findings, seen: Seen = NOTHING) -> Gallery:
    made = Gallery()
    for baseline in found.baselines:
        spec = figures.differences(found, baseline)
        made.add("difference", spec, f"Difference to {baseline}", baseline, wide=True)
    made.add("delta-m", figures.deltas(found), "Δm against single-task networks", wide=True)
    shown = panels.highlighted(found)
    spec = profile_chart(runs_of(found), shown, "change of a task in a run, %")
    made.add("profile", spec, "Performance profile", wide=True)
    made.add("quality-cost", trade.quality_and_cost(found), "Quality against cost", wide=True)
    made.add("cost", figures.cost(found), "Time of a training step", wide=True)
    _curves(made, found)
    many = len(found.single) > MANY
    _of_arms(made, "weights", "Weights", found, panels.weights, MAPS if many else PANELS)
    equal = next((each for each in found.arms if each.arm.label == "ew"), None)
    if equal is not None:
        wide = panels.mapped(found)
        title = "Cosines between task gradients under equal weights"
        made.add("cosines", panels.cosines(found, equal), title, wide=wide)
        title = "Norms of task gradients under equal weights"
        made.add("norms", panels.norms(found, equal), title, wide=many)
    _of_arms(made, "tuning", "Tuning", found, tuning.rates, PANELS)
    for each in found.single.values():
        spec = tuning.rates(found, each)
        made.add("tuning", spec, f"Tuning of {each.arm.label}", each.arm.label, folded=many)
    _analyses(made, found, seen)
    return made


def _analyses(made: Gallery, found: Findings, seen: Seen) -> None:
    for front in seen.fronts:
        tasks = range(len(front.objectives))
        # With more tasks there are too many pairs to look at.
        for i, j in combinations(tasks, 2) if len(tasks) <= PAIRED else ():
            pair = f"{front.objectives[i]}, {front.objectives[j]}"
            title = f"Front of fixed weights: {pair}"
            made.add(f"front {front.kind}", front_chart(front, i, j), title, pair, wide=True)
    made.add("frozen", frozen_chart(found), "Dynamic minus frozen weights", wide=True)
    made.add("sizes", sweep.sizes_chart(seen.sizes), "Δm at every setting", wide=True)
    made.add("variance", analyses.variance_chart(seen.shares), "Shares of the variance", wide=True)
    made.add("sparse", analyses.sparse_chart(seen.sparse), "Sparse learning rates", wide=True)
    spec = analyses.convergence_chart(seen.convergence)
    made.add("convergence", spec, "Training loss by examples seen", wide=True)


def _of_arms(
    made: Gallery,
    section: str,
    title: str,
    found: Findings,
    draw: Callable[[Findings, ArmFindings], Spec | None],
    most: int,
) -> None:
    """One panel an arm; the best arms come first where not all are shown."""
    arms: Sequence[ArmFindings] = found.arms
    if len(arms) > most:
        arms = sorted(arms, key=lambda e: -e.delta.value if np.isfinite(e.delta.value) else np.inf)
    made.sections.setdefault(section, [])
    for each in arms:
        folded = len(made.sections[section]) >= most
        label = each.arm.label
        made.add(section, draw(found, each), f"{title} of {label}", label, folded=folded)


def _curves(made: Gallery, found: Findings) -> None:
    shown = panels.highlighted(found)
    chosen = set(range(len(found.measures)))
    if len(chosen) > MANY:
        chosen = set(_most_changed(found))
    for place, measure in enumerate(found.measures):
        spec = panels.curves(found, measure, shown)
        label = f"{measure.task}: {measure.metric}"
        made.add("curve", spec, f"{label}, validation", label, folded=place not in chosen)


def _most_changed(found: Findings) -> list[int]:
    """The metrics that differ most between arms, in percent of the single-task networks."""
    changes = np.array([each.changes for each in found.arms])
    finite = np.where(np.isfinite(changes), changes, np.nan)
    known = np.asarray(np.isfinite(finite).any(axis=0))
    spread = np.full(len(known), -1.0)
    spread[known] = np.nanmax(finite[:, known], 0) - np.nanmin(finite[:, known], 0)
    return [int(place) for place in np.argsort(-spread, kind="stable")[:CURVES]]
