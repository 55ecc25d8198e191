"""The large figures of a report: differences, Delta_m and cost, a row for every arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from equipoise.report.chosen import setting
from equipoise.report.look import (
    ACCENT,
    BETTER,
    FAINT,
    INK,
    PAPER,
    SOFT,
    Row,
    Spec,
    shortened,
    sized,
)
from equipoise.report.tables import SAID
from equipoise.study import ArmFindings, Findings
from equipoise.study.statistics import Estimate
from equipoise.study.verdict import interval, outcome
from equipoise.study.words import p_value

OUTCOMES = {
    SAID["better"]: BETTER,
    SAID["worse"]: "var(--worse)",
    SAID["undecided"]: SOFT,
    SAID["untested"]: FAINT,
}
ROW = 22


def differences(found: Findings, baseline: str) -> Spec | None:
    """Paired differences to a baseline with intervals, best first; a dot for every pair."""
    base = found.arm(baseline)
    rows, runs = [], []
    for each in found.arms:
        gap = each.against.get(baseline)
        if gap is None or not np.isfinite(gap.value):
            continue
        said = SAID[outcome(each, baseline)]
        rows.append({**named(each), **reach(gap), "said": said, "p": p_value(gap.p_holm)})
        runs += [
            {**named(each), "run": float(own - other), "trial": trial.id[:12], "seed": trial.seed}
            for own, other, trial in zip(each.deltas, base.deltas, each.trials, strict=True)
            if trial is not None and np.isfinite(own - other)
        ]
    title = f"Δm minus that of {baseline}, points"
    told = [("said:N", "shown"), ("p:N", "p (Holm)")]
    return forest(rows, runs, title, OUTCOMES, told)


def deltas(found: Findings) -> Spec | None:
    """Delta_m against single-task networks with intervals, best first; a dot for every run."""
    arms = [each for each in found.arms if np.isfinite(each.delta.value)]
    rows = [
        {**named(each), **reach(each.delta), "said": "ew" if each.arm.label == "ew" else "others"}
        for each in arms
    ]
    runs = [
        {**named(each), "run": float(own), "trial": trial.id[:12], "seed": trial.seed}
        for each in arms
        for own, trial in zip(each.deltas, each.trials, strict=True)
        if trial is not None and np.isfinite(own)
    ]
    return forest(rows, runs, "Δm, % (higher is better)", {"ew": INK, "others": ACCENT}, [])


def named(each: ArmFindings) -> Row:
    """What a point says of its arm."""
    return {"label": each.arm.label, "setting": setting(each)}


def reach(estimate: Estimate) -> Row:
    """A number and its interval; without one the interval is the number."""
    return {
        "value": estimate.value,
        "low": estimate.low if np.isfinite(estimate.low) else estimate.value,
        "high": estimate.high if np.isfinite(estimate.high) else estimate.value,
        "text": interval(estimate),
    }


def forest(
    rows: list[Row],
    runs: list[Row],
    title: str,
    colors: dict[str, str],
    told: Sequence[tuple[str, str]],
) -> Spec | None:
    """Values with intervals around zero, best first, and the runs behind them."""
    if not rows:
        return None
    rows.sort(key=lambda row: -float(row["value"]))
    y = names([row["label"] for row in rows])
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=y,
        color=colors_of("said", {name: c for name, c in colors.items() if has(rows, "said", name)}),
        tooltip=[
            alt.Tooltip("label:N", title="method"),
            alt.Tooltip("setting:N", title="setting"),
            alt.Tooltip("text:N", title="points"),
            *(alt.Tooltip(field, title=name) for field, name in told),
        ],
    )
    x = alt.X("low:Q", title=title, scale=alt.Scale(zero=True, nice=True))
    bars = base.mark_rule(strokeWidth=2).encode(x=x, x2="high:Q")
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(x="value:Q")
    single = (
        alt.Chart(alt.InlineData(values=runs))
        .mark_point(size=22, opacity=1, fill=PAPER, stroke=SOFT, strokeWidth=1.2)
        .encode(
            y=y,
            x="run:Q",
            tooltip=[
                alt.Tooltip("label:N", title="method"),
                alt.Tooltip("setting:N", title="setting"),
                alt.Tooltip("seed:N", title="seed"),
                alt.Tooltip("run:Q", title="points", format="+.2f"),
                alt.Tooltip("trial:N", title="trial"),
            ],
        )
    )
    return sized(zero_line("x") + bars + single + dots, height=ROW * len(rows))


def names(order: list[str]) -> alt.Y:
    """An axis of names in this order."""
    axis = alt.Axis(ticks=False, domain=False, labelExpr=shortened(order), labelLimit=170)
    return alt.Y("label:N", sort=order, title=None, axis=axis)


def colors_of(field: str, colors: dict[str, str]) -> alt.Color:
    """Colours by name, without a legend: the page has its own."""
    scale = alt.Scale(domain=list(colors), range=list(colors.values()))
    return alt.Color(f"{field}:N", scale=scale, legend=None)


def has(rows: Sequence[Row], field: str, value: object) -> bool:
    """Whether a row has this value."""
    return any(row[field] == value for row in rows)


def zero_line(channel: str) -> Any:
    """A line at 0 of an axis."""
    rule = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(color=INK, strokeWidth=1)
    return rule.encode(x="zero:Q") if channel == "x" else rule.encode(y="zero:Q")


def cost(found: Findings) -> Spec | None:
    """Time of a step as a multiple of that under equal weights."""
    rows = [
        {
            **named(each),
            "ratio": each.spent.ratio,
            "text": f"{each.spent.ratio:.2f} ({each.spent.backwards:.3g})",
            "said": "ew" if each.arm.label == "ew" else "others",
        }
        for each in found.arms
        if each.spent and np.isfinite(each.spent.ratio)
    ]
    if not rows:
        return None
    rows.sort(key=lambda row: float(row["ratio"]))
    longest = max(float(row["ratio"]) for row in rows)
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=names([row["label"] for row in rows]),
        x=alt.X(
            "ratio:Q",
            title="time of a step, × ew (backward passes)",
            # Room for the text at the end of the longest bar.
            scale=alt.Scale(domain=[0, 1.6 * longest]),
            axis=alt.Axis(tickCount=5),
        ),
        tooltip=[
            alt.Tooltip("label:N", title="method"),
            alt.Tooltip("text:N", title="time (passes)"),
        ],
    )
    bars = base.mark_bar(opacity=0.8, height=9).encode(
        color=colors_of("said", {"ew": INK, "others": ACCENT})
    )
    labels = base.mark_text(align="left", dx=4, color=SOFT).encode(text="text:N")
    return sized(bars + labels, height=ROW * len(rows))
