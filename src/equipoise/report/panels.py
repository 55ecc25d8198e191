"""The small panels of a report: one an arm, a metric or a pair of tasks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import altair as alt
import numpy as np

from equipoise.report import maps
from equipoise.report.figures import colors_of
from equipoise.report.look import ACCENT, FAINT, INK, MANY, TASKS, Row, Spec, sized
from equipoise.study import ArmFindings, Findings
from equipoise.study.fixed import FIXED
from equipoise.study.selection import Measure

HIGHLIGHTS = (INK, ACCENT, TASKS[1], TASKS[2])
OTHERS = "the others"


def weights(found: Findings, entry: ArmFindings) -> Spec | None:
    """Share of each task in the weights over the epochs: lines with spread, or a map of many tasks."""
    ids = {trial.id for trial in entry.runs}
    seen: dict[tuple[int, str], list[tuple[float, float]]] = defaultdict(list)
    for trial, epoch, task, mean, std in found.weights:
        if trial in ids:
            seen[epoch, task].append((mean, std))
    means = {key: np.mean(values, axis=0) for key, values in seen.items()}
    sums: dict[int, float] = defaultdict(float)
    for (epoch, _), (mean, _) in means.items():
        sums[epoch] += float(mean)
    rows = [
        {
            "epoch": epoch,
            "task": task,
            "share": float(mean) / sums[epoch],
            "low": float(mean - std) / sums[epoch],
            "high": float(mean + std) / sums[epoch],
        }
        for (epoch, task), (mean, std) in means.items()
        if sums[epoch] > 0
    ]
    if len(found.single) > MANY:
        return maps.weights(rows, list(found.single))
    return _small_lines(rows, "share", "share", alt.Scale(domain=[0, 1]), task_colors(found))


def curves(found: Findings, measure: Measure, shown: Sequence[str]) -> Spec | None:
    """A metric on validation over the epochs: the arms ``shown`` in colour, the others faint."""
    rows: list[Row] = []
    entries = [*found.arms, found.single[measure.task]]
    for entry in entries:
        label = "single-task" if entry.arm.task else entry.arm.label
        runs = [found.found.curve(trial, "validation") for trial in entry.runs]
        for epoch in sorted({epoch for run in runs for epoch in run}):
            seen = [
                run[epoch][measure.task, measure.metric]
                for run in runs
                if epoch in run and (measure.task, measure.metric) in run[epoch]
            ]
            if seen:
                row = {"epoch": epoch, "arm": label, "value": float(np.mean(seen))}
                rows.append({**row, "color": label if label in shown else OTHERS})
    if not rows:
        return None
    # The first epochs are far off and would flatten the rest, so the axis starts where most are.
    late = [row["value"] for row in rows if row["epoch"] > max(r["epoch"] for r in rows) / 5]
    low, high = (
        np.percentile(late, [5, 100]) if measure.higher_is_better else np.percentile(late, [0, 95])
    )
    good = "higher is better" if measure.higher_is_better else "lower is better"
    unit = f", {measure.unit}" if measure.unit else ""
    y = alt.Y(
        "value:Q",
        title=f"{measure.metric}{unit} ({good})",
        scale=alt.Scale(domain=[float(low), float(high)], nice=True),
    )
    colors = {**dict(zip(shown, HIGHLIGHTS, strict=False)), OTHERS: FAINT}
    base = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(clip=True)
        .encode(
            x=_epochs(rows),
            y=y,
            color=colors_of("color", colors),
            strokeWidth=alt.condition(f"datum.color != '{OTHERS}'", alt.value(2), alt.value(1)),
            detail="arm:N",
            tooltip=[alt.Tooltip("arm:N", title="method"), "epoch:Q", _number("value")],
        )
    )
    back = base.transform_filter(f"datum.color == '{OTHERS}'")
    return sized(back + base.transform_filter(f"datum.color != '{OTHERS}'"), height=190)


def highlighted(found: Findings) -> list[str]:
    """Arms to show in colour: equal weights, the best method, single-task networks, fixed weights."""
    ranked = [each for each in found.arms if np.isfinite(each.delta.value)]
    ranked.sort(key=lambda each: -each.delta.value)
    best = [each.arm.label for each in ranked if each.arm.label not in found.baselines][:1]
    return ["ew", *best, "single-task", FIXED]


def cosines(found: Findings, entry: ArmFindings) -> Spec | None:
    """Cosine of each pair of task gradients: lines over the epochs, or a map of the last one."""
    rows = _gradients(found, entry, lambda task, other: task != other)
    if not mapped(found):
        scale = alt.Scale(domain=[-1, 1])
        return _small_lines(rows, "value", "cosine", scale, pair_colors(found, entry), height=170)
    end = max((row["epoch"] for row in rows), default=0)
    return maps.cosines([row for row in rows if row["epoch"] == end], list(found.single))


def norms(found: Findings, entry: ArmFindings) -> Spec | None:
    """Norm of each task gradient over the epochs, mean over seeds, on a logarithmic axis."""
    rows = _gradients(found, entry, lambda task, other: task == other)
    rows = [row for row in rows if row["value"] > 0]
    if len(found.single) > MANY:
        return maps.norms(rows, list(found.single))
    if not rows:
        return None
    values = [row["value"] for row in rows]
    scale = alt.Scale(type="log", domain=[0.9 * min(values), 1.1 * max(values)], nice=False)
    axis = alt.Axis(values=_powers(values), format="~g")
    return _small_lines(rows, "value", "norm", scale, task_colors(found), 170, axis)


def mapped(found: Findings) -> bool:
    """Whether there are more pairs of tasks than colours, so that cosines are a map."""
    return math.comb(len(found.single), 2) > MANY


def _gradients(
    found: Findings, entry: ArmFindings, wanted: Callable[[str, str], bool]
) -> list[Row]:
    ids = {trial.id for trial in entry.runs}
    seen: dict[tuple[int, str, str], list[float]] = defaultdict(list)
    for trial, epoch, task, other, value in found.gradients:
        if trial in ids and wanted(task, other):
            seen[epoch, task, other].append(value)
    return [
        {
            "epoch": epoch,
            "task": task if task == other else f"{task} · {other}",
            "one": task,
            "other": other,
            "value": float(np.mean(values)),
        }
        for (epoch, task, other), values in seen.items()
    ]


def pair_colors(found: Findings, entry: ArmFindings) -> dict[str, str]:
    """Colours of the pairs of tasks in :func:`cosines`."""
    rows = _gradients(found, entry, lambda task, other: task != other)
    return dict(zip(sorted({str(row["task"]) for row in rows}), TASKS, strict=False))


def task_colors(found: Findings) -> dict[str, str]:
    """Colours of the tasks."""
    return dict(zip(found.single, TASKS, strict=False))


def _small_lines(
    rows: Iterable[Row],
    field: str,
    title: str,
    scale: alt.Scale,
    colors: dict[str, str],
    height: int = 90,
    axis: alt.Axis | None = None,
) -> Spec | None:
    values = list(rows)
    if not values:
        return None
    chart = (
        alt.Chart(alt.InlineData(values=values))
        .mark_line(strokeWidth=2, clip=True)
        .encode(
            x=_epochs(values),
            y=alt.Y(f"{field}:Q", title=title, scale=scale, axis=axis or alt.Axis(tickCount=3)),
            color=colors_of("task", colors),
            tooltip=["task:N", "epoch:Q", _number(field)],
        )
    )
    if all("low" in row for row in values):
        band = chart.mark_area(opacity=0.16, clip=True).encode(
            y=alt.Y("low:Q", title=title, scale=scale), y2="high:Q"
        )
        chart = band + chart
    return sized(chart, height=height)


def _number(field: str) -> alt.Tooltip:
    return alt.Tooltip(f"{field}:Q", format=".4~g")


def _epochs(rows: Sequence[Row]) -> alt.X:
    last = max(int(row["epoch"]) for row in rows)
    step = next(each for each in _steps() if last <= 5 * each)
    axis = alt.Axis(values=list(range(step, last + 1, step)), format="d", grid=False)
    return alt.X("epoch:Q", title="epoch", axis=axis, scale=alt.Scale(nice=False, zero=False))


def _steps() -> Iterator[int]:
    """1, 2, 5, 10, and so on."""
    return (digit * 10**power for power in range(12) for digit in (1, 2, 5))


def _powers(values: Sequence[float]) -> list[float]:
    """Ticks of a logarithmic axis: powers of ten, and digits between them where there is room."""
    low, high = min(values), max(values)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    finest = range(1, 10)
    for digits in ((1,), (1, 2, 5), finest):
        ticks = [digit * 10.0**power for power in powers for digit in digits]
        inside = [tick for tick in ticks if 0.9 * low <= tick <= 1.1 * high]
        if len(inside) > 2 or digits is finest:
            break
    # Values so near to one another that no such number lies among them have ticks of their own.
    return inside if len(inside) > 1 else sorted({float(f"{x:.3g}") for x in (low, high)})
