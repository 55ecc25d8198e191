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
    Estimate,
    bootstrap_delta_m,
    mean_interval,
)
from equipoise.study.train import TEST_AT_BEST
from equipoise.study.trial import Trial
from equipoise.study.verdict import interval, signed

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
    seen = {each.arm.label: _last(found, each.runs, TEST_AT_BEST) for each in found.all_arms}
    if not any(seen.values()):
        return None
    reference = _reference(found, seen)
    deltas = {
        each.arm.label: _delta(found, _scores(found, seen[each.arm.label]), reference)
        for each in found.arms
    }
    ordered = sorted(found.arms, key=lambda each: last_if_missing(-deltas[each.arm.label].value))
    measures = found.measures
    first = [Cell("single-task", "control"), Cell("reference" if len(reference) else EMPTY)]
    for measure in measures:
        own = seen[found.single[measure.task].arm.label]
        first.append(Cell(_mean(own, (measure.task, measure.metric))))
    lines = [[*first, Cell(_epochs(found, found.single.values()))]]
    for each in ordered:
        rows, delta = seen[each.arm.label], deltas[each.arm.label]
        known = interval(delta) if math.isfinite(delta.value) else EMPTY
        numbers = [Cell(_mean(rows, (m.task, m.metric))) for m in measures]
        lines.append([arm_name(each), Cell(known), *numbers, Cell(_epochs(found, [each]))])
    columns = ["method", "Delta_m", *[f"{m.task} {m.metric}" for m in measures], "epoch"]
    return Table(columns, lines, ["", "% ↑", *map(arrow, measures), "mean"])


def _last(found: Findings, runs: Sequence[Trial], split: str) -> list[Row]:
    """The last row of each run that finished."""
    curves = [found.found.curve(run, split) for run in runs if found.found.finished(run)]
    return [curve[max(curve)] for curve in curves if curve]


def _epochs(found: Findings, arms: Iterable[ArmFindings]) -> str:
    curves = [found.found.curve(run, TEST_AT_BEST) for each in arms for run in each.runs]
    epochs = [max(curve) for curve in curves if curve]
    return f"{np.mean(epochs):.1f}" if epochs else EMPTY


def _mean(rows: Sequence[Row], key: tuple[str, str]) -> str:
    values = np.array([row[key] for row in rows if math.isfinite(row.get(key, math.nan))])
    return number(mean_interval(values)) if len(values) else EMPTY


def _scores(found: Findings, rows: Sequence[Row]) -> Array:
    """Rows without gaps, ``[S, M]``."""
    values = [[row.get((m.task, m.metric), math.nan) for m in found.measures] for row in rows]
    table: Array = np.array(values, dtype=float).reshape(-1, len(found.measures))
    return table[np.isfinite(table).all(1)]


def _reference(found: Findings, seen: dict[str, list[Row]]) -> Array:
    """Rows of single-task networks, as many as every task has, ``[S', M]``."""
    columns = []
    for measure in found.measures:
        rows = seen[found.single[measure.task].arm.label]
        values = [row.get((measure.task, measure.metric), math.nan) for row in rows]
        columns.append([value for value in values if math.isfinite(value)])
    count = min(map(len, columns))
    whole: Array = np.array([column[:count] for column in columns]).T
    return whole


def _delta(found: Findings, scores: Array, reference: Array) -> Estimate:
    if not len(scores) or not len(reference):
        return Estimate(math.nan, math.nan, math.nan, 0)
    return bootstrap_delta_m(
        scores, reference, found.found.higher, found.found.task_of, found.plain
    )


def differences_by_task(found: Findings) -> Table | None:
    """Every arm minus the first baseline in every metric."""
    if not found.baselines:
        return None
    baseline = found.baselines[0]
    told = {(each.label, each.measure): each for each in per_task(found, baseline)}
    labels = list(dict.fromkeys(label for label, _ in told))
    rows = []
    for label in labels:
        cells = [Cell(label)]
        for measure in found.measures:
            each = told[label, measure]
            kind = ("better" if each.value > 0 else "worse") if each.shown() else "undecided"
            text = EMPTY if not math.isfinite(each.value) else signed(each.value)
            cells.append(Cell(text, kind))
        rows.append(cells)
    columns = ["method", *[f"{m.task} {m.metric}" for m in found.measures]]
    plain = found.plain.tolist()
    units = ["", *[m.unit if flat else "%" for m, flat in zip(found.measures, plain, strict=True)]]
    return Table(columns, rows, units)
