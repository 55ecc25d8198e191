"""Tables of what lies beside the comparison: metrics over all tasks, and the test split at the best epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from equipoise.report.table import EMPTY, Cell, Table
from equipoise.report.tables import arm_name, arrow, last_if_missing, number
from equipoise.study import ArmFindings, Findings
from equipoise.study.analyses import per_task
from equipoise.study.measuring import JOINT
from equipoise.study.statistics import (
    Array,
    mean_interval,
    paired_delta_m,
)
from equipoise.study.train import TEST_AT_BEST
from equipoise.study.trial import Trial
from equipoise.study.verdict import MINUS, interval, signed

Row = dict[tuple[str, str], float]


def joint(found: Findings) -> Table | None:
    """Metrics of the whole problem on the test split; None where it has none."""
    rows = {each.arm.label: _last(found, each.runs, "test") for each in found.arms}
    names = dict.fromkeys(
        name for seen in rows.values() for row in seen for task, name in row if task == JOINT
    )
    if not names:
        return None
    ordered = sorted(found.arms, key=lambda each: last_if_missing(-each.delta.value))
    lines = [
        [arm_name(each), *(Cell(_mean(rows[each.arm.label], (JOINT, name))) for name in names)]
        for each in ordered
    ]
    return Table(["method", *names], lines, ["", *("" for _ in names)])


def at_best(found: Findings) -> Table | None:
    """The test split at the epoch that was best on validation; None where no epochs were kept."""
    seen = {each.arm.label: _last(found, each.trials, TEST_AT_BEST) for each in found.all_arms}
    if not any(row for rows in seen.values() for row in rows):
        return None
    reference = _reference(found, seen)
    how = (found.found.higher, found.found.task_of, found.plain)
    deltas = {
        each.arm.label: paired_delta_m(_scores(found, seen[each.arm.label]), reference, *how)
        for each in found.arms
    }
    ordered = sorted(found.arms, key=lambda each: last_if_missing(-deltas[each.arm.label].value))
    measures = found.measures
    first = [
        Cell("single-task", "control"),
        Cell("reference" if np.isfinite(reference).all(1).any() else EMPTY),
    ]
    for measure in measures:
        own = seen[found.single[measure.task].arm.label]
        first.append(Cell(_mean(own, (measure.task, measure.metric))))
    lines = [[*first, Cell(_epochs(found, found.single.values()))]]
    for each in ordered:
        rows, delta = seen[each.arm.label], deltas[each.arm.label]
        gap = interval(delta) if math.isfinite(delta.value) else EMPTY
        numbers = [Cell(_mean(rows, (m.task, m.metric))) for m in measures]
        lines.append([arm_name(each), Cell(gap), *numbers, Cell(_epochs(found, [each]))])
    columns = ["method", "Delta_m", *[f"{m.task} {m.metric}" for m in measures], "epoch"]
    return Table(columns, lines, ["", "% ↑", *map(arrow, measures), "mean"])


def _last(found: Findings, trials: Sequence[Trial | None], split: str) -> list[Row]:
    """The last row of each run, by seed; empty for one that did not finish."""
    curves = [
        found.found.curve(trial, split) if trial and found.found.finished(trial) else {}
        for trial in trials
    ]
    return [curve[max(curve)] if curve else {} for curve in curves]


def _epochs(found: Findings, arms: Iterable[ArmFindings]) -> str:
    curves = [found.found.curve(run, TEST_AT_BEST) for each in arms for run in each.runs]
    epochs = [max(curve) for curve in curves if curve]
    return f"{np.mean(epochs):.1f}" if epochs else EMPTY


def _mean(rows: Sequence[Row], key: tuple[str, str]) -> str:
    values = np.array([row[key] for row in rows if math.isfinite(row.get(key, math.nan))])
    return number(mean_interval(values)) if len(values) else EMPTY


def _scores(found: Findings, rows: Sequence[Row]) -> Array:
    """The columns of each seed, NaN for a gap, ``[S, M]``."""
    return np.array([found.found.row(row) for row in rows])


def _reference(found: Findings, seen: dict[str, list[Row]]) -> Array:
    """The columns of the single-task networks of each seed, ``[S, M]``."""
    columns = [
        _scores(found, seen[found.single[measure.task].arm.label])[:, place]
        for place, measure in enumerate(found.measures)
    ]
    return np.stack(columns, axis=1)


def differences_by_task(found: Findings) -> Table | None:
    """Every arm minus the first baseline in every metric."""
    if not found.baselines:
        return None
    baseline = found.baselines[0]
    told = {(each.label, each.measure): each for each in per_task(found, baseline)}
    if not told:
        return None
    labels = list(dict.fromkeys(label for label, _ in told))
    rows = []
    plain = found.plain.tolist()
    for label in labels:
        cells = [Cell(label)]
        for measure, flat in zip(found.measures, plain, strict=True):
            each = told[label, measure]
            kind = ("better" if each.value > 0 else "worse") if each.shown() else "undecided"
            text = EMPTY if not math.isfinite(each.value) else _difference(each.value, flat)
            cells.append(Cell(text, kind))
        rows.append(cells)
    columns = ["method", *[f"{m.task} {m.metric}" for m in found.measures]]
    units = ["", *[m.unit if flat else "%" for m, flat in zip(found.measures, plain, strict=True)]]
    return Table(columns, rows, units)


def _difference(value: float, plain: bool) -> str:
    """In percent with one digit, or in the metric's own units, of whatever size these are."""
    if not plain or value == 0:
        return signed(value)
    return f"{value:+.3g}".replace("-", MINUS)
