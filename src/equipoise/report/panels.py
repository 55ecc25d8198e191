"""The small panels of a report: one an arm, a metric or a pair of tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt
import numpy as np

from equipoise.report.figures import Row, Spec, sized
from equipoise.report.look import FAINT, SOFT, TASKS
from equipoise.study import ArmFindings, Findings
from equipoise.study.selection import Measure


def weights(found: Findings, entry: ArmFindings) -> Spec | None:
    """Share of each task in the weights over the epochs: mean and spread over the steps of an epoch."""
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
    return _small_lines(rows, "share", alt.Scale(domain=[0, 1]), task_colors(found))


def curves(found: Findings, measure: Measure, shown: Sequence[str]) -> Spec | None:
    """A metric on validation over the epochs: the arms ``shown`` in colour, the others faint."""
    rows: list[Row] = []
    entries = [*found.arms, found.single[measure.task]]
    colors = dict(zip(shown, HIGHLIGHTS, strict=False))
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
                rows.append(
                    {
                        "epoch": epoch,
                        "arm": label,
                        "value": float(np.mean(seen)),
                        "color": colors.get(label, FAINT),
                        "front": label in colors,
                    }
                )
    if not rows:
        return None
    # The first epochs are far off and would flatten the rest, so the axis starts where most are.
    late = [row["value"] for row in rows if row["epoch"] > max(r["epoch"] for r in rows) / 5]
    low, high = (
        np.percentile(late, [5, 100]) if measure.higher_is_better else np.percentile(late, [0, 95])
    )
    base = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(clip=True)
        .encode(
            x=_epochs(),
            y=alt.Y(
                "value:Q", title=None, scale=alt.Scale(domain=[float(low), float(high)], nice=True)
            ),
            color=alt.Color("color:N", scale=None),
            strokeWidth=alt.condition("datum.front", alt.value(2), alt.value(1)),
            detail="arm:N",
            tooltip=["arm:N", "epoch:Q", alt.Tooltip("value:Q", format=".3~f")],
        )
    )
    front = base.transform_filter("datum.front")
    return sized(base.transform_filter("!datum.front") + front, height=190)


HIGHLIGHTS = ("var(--ink)", "var(--accent)", "var(--task2)", "var(--task3)")


def rates(found: Findings, entry: ArmFindings) -> Spec | None:
    """Validation score of each tuning candidate; the chosen one is filled."""
    rows = []
    task = entry.arm.task
    varied = {candidate.learning_rate for candidate in entry.choice.scores}
    for candidate, score in entry.choice.scores.items():
        tuned = [f"{candidate.option(name):g}" for name in entry.arm.search]
        at = f"{candidate.learning_rate:g}" if len(varied) > 1 or not tuned else ""
        if task is not None and not _first(found, task).higher_is_better:
            score = -score
        rows.append(
            {
                "at": " ".join(filter(None, [at, *tuned])),
                "score": score if np.isfinite(score) else None,
                "chosen": candidate == entry.choice.candidate,
            }
        )
    known = [row for row in rows if row["score"] is not None]
    if not known:
        return None
    scale = alt.Scale(zero=False, padding=6) if task else alt.Scale(domain=_shared_domain(found))
    y = alt.Y("score:Q", title=None, scale=scale, axis=alt.Axis(tickCount=3))
    x = alt.X("at:O", sort=None, title=None, axis=alt.Axis(labelAngle=0))
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=x, y=y, tooltip=["at:N", alt.Tooltip("score:Q", format=".2f")]
    )
    dots = base.mark_point(size=50, opacity=1, color="var(--accent)", clip=True).encode(
        fill=alt.condition("datum.chosen", alt.value("var(--accent)"), alt.value("var(--paper)"))
    )
    return sized(base.mark_line(color=FAINT, clip=True) + dots, height=90)


def _shared_domain(found: Findings) -> list[float]:
    best = [
        max((score for score in each.choice.scores.values() if np.isfinite(score)), default=0.0)
        for each in found.arms
    ]
    # A learning rate that ruins training must not flatten all panels: the axis ends where the best of
    # every method and as much again below it have room.
    return [1.8 * min(*best, 0.0) - 1, max(*best, 0.0) + 1]


def rates_title(found: Findings, entry: ArmFindings) -> str:
    """What a panel of :func:`rates` shows, where it is not Delta_m by learning rate."""
    if entry.arm.task is not None:
        first = _first(found, entry.arm.task)
        good = "higher" if first.higher_is_better else "lower"
        return f"{entry.arm.label}: {first.metric} ({good} is better)"
    if entry.arm.search:
        return f"{entry.arm.label}: {', '.join(entry.arm.search)}"
    return entry.arm.label


def _first(found: Findings, task: str) -> Measure:
    return next(measure for measure in found.measures if measure.task == task)


def cosines(found: Findings, entry: ArmFindings) -> Spec | None:
    """Cosine of each pair of task gradients over the epochs, mean over seeds."""
    rows = _gradients(found, entry, lambda task, other: task != other)
    pairs = sorted({str(row["task"]) for row in rows})
    return _small_lines(
        rows, "value", alt.Scale(domain=[-1, 1]), dict(zip(pairs, TASKS, strict=False)), height=170
    )


def norms(found: Findings, entry: ArmFindings) -> Spec | None:
    """Norm of each task gradient over the epochs, mean over seeds, on a logarithmic axis."""
    rows = _gradients(found, entry, lambda task, other: task == other)
    rows = [row for row in rows if row["value"] > 0]
    scale = alt.Scale(type="log", nice=False)
    return _small_lines(rows, "value", scale, task_colors(found), height=170)


def _gradients(found: Findings, entry: ArmFindings, wanted: Any) -> list[Row]:
    ids = {trial.id for trial in entry.runs}
    seen: dict[tuple[int, str], list[float]] = defaultdict(list)
    for trial, epoch, task, other, value in found.gradients:
        if trial in ids and wanted(task, other):
            seen[epoch, task if task == other else f"{task} · {other}"].append(value)
    return [
        {"epoch": epoch, "task": task, "value": float(np.mean(values))}
        for (epoch, task), values in seen.items()
    ]


def pair_colors(found: Findings, entry: ArmFindings) -> dict[str, str]:
    """Colours of the pairs of tasks in :func:`cosines`."""
    rows = _gradients(found, entry, lambda task, other: task != other)
    return dict(zip(sorted({str(row["task"]) for row in rows}), TASKS, strict=False))


def task_colors(found: Findings) -> dict[str, str]:
    """Colours of the tasks."""
    return dict(zip(found.single, TASKS, strict=False))


def _small_lines(
    rows: Iterable[Row], field: str, scale: alt.Scale, colors: dict[str, str], height: int = 90
) -> Spec | None:
    values = [{**row, "color": colors.get(str(row["task"]), SOFT)} for row in rows]
    if not values:
        return None
    chart = (
        alt.Chart(alt.InlineData(values=values))
        .mark_line(strokeWidth=2, clip=True)
        .encode(
            x=_epochs(),
            y=alt.Y(f"{field}:Q", title=None, scale=scale, axis=alt.Axis(tickCount=3)),
            color=alt.Color("color:N", scale=None),
            detail="task:N",
            tooltip=["task:N", "epoch:Q", alt.Tooltip(f"{field}:Q", format=".3~f")],
        )
    )
    if all("low" in row for row in values):
        band = chart.mark_area(opacity=0.16, clip=True).encode(
            y=alt.Y("low:Q", title=None, scale=scale), y2="high:Q"
        )
        chart = band + chart
    return sized(chart, height=height)


def _epochs() -> alt.X:
    return alt.X("epoch:Q", title=None, axis=alt.Axis(tickMinStep=1, tickCount=4, grid=False))
