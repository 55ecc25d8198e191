"""The figures of a report, as Vega-Lite charts that take their colours from the page."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from equipoise.report.look import INK, SOFT
from equipoise.study import Findings
from equipoise.study.statistics import Estimate
from equipoise.study.verdict import interval, outcome

Spec = dict[str, Any]
Row = dict[str, Any]

OUTCOME = {
    "better": "var(--better)",
    "worse": "var(--worse)",
    "undecided": "var(--soft)",
    "untested": "var(--soft)",
}


def differences(found: Findings, baseline: str) -> Spec | None:
    """Paired differences to a baseline with intervals, best first."""
    arms = [each for each in found.arms if baseline in each.against]
    rows = [
        _forest_row(each.arm.label, each.against[baseline], outcome(each, baseline))
        for each in arms
        if np.isfinite(each.against[baseline].value)
    ]
    return _forest(rows, f"Delta_m minus that of {baseline}, percentage points")


def deltas(found: Findings) -> Spec | None:
    """Delta_m against single-task networks with intervals, best first."""
    rows = [
        _forest_row(each.arm.label, each.delta, "untested")
        for each in found.arms
        if np.isfinite(each.delta.value)
    ]
    for row in rows:
        row["color"] = INK if row["label"] == "ew" else "var(--accent)"
    return _forest(rows, "Delta_m, % (higher is better)")


def _forest_row(label: str, estimate: Estimate, verdict: str) -> Row:
    return {
        "label": label,
        "value": estimate.value,
        "low": estimate.low if np.isfinite(estimate.low) else estimate.value,
        "high": estimate.high if np.isfinite(estimate.high) else estimate.value,
        "color": OUTCOME[verdict],
        "text": interval(estimate),
    }


def _forest(rows: list[Row], title: str) -> Spec | None:
    if not rows:
        return None
    rows.sort(key=lambda row: -float(row["value"]))
    order = [row["label"] for row in rows]
    y = alt.Y("label:N", sort=order, title=None, axis=alt.Axis(ticks=False, domain=False))
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=y,
        color=alt.Color("color:N", scale=None),
        tooltip=[alt.Tooltip("label:N", title="method"), alt.Tooltip("text:N", title="difference")],
    )
    x = alt.X("low:Q", title=title, scale=alt.Scale(zero=True, nice=True))
    bars = base.mark_rule(strokeWidth=2).encode(x=x, x2="high:Q")
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(x="value:Q")
    zero = (
        alt.Chart(alt.InlineData(values=[{"zero": 0}]))
        .mark_rule(color=INK, strokeWidth=1)
        .encode(x="zero:Q")
    )
    return sized(zero + bars + dots, height=22 * len(rows))


def cost(found: Findings) -> Spec | None:
    """Time of a step as a multiple of that under equal weights."""
    rows = [
        {
            "label": each.arm.label,
            "ratio": each.spent.ratio,
            "text": f"{each.spent.ratio:.2f}×, {_passes(each.spent.backwards)}",
            "color": INK if each.arm.label == "ew" else "var(--accent)",
        }
        for each in found.arms
        if each.spent and np.isfinite(each.spent.ratio)
    ]
    if not rows:
        return None
    rows.sort(key=lambda row: float(str(row["ratio"])))
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y(
            "label:N",
            sort=[str(row["label"]) for row in rows],
            title=None,
            axis=alt.Axis(ticks=False, domain=False),
        ),
        x=alt.X(
            "ratio:Q",
            title="time of a step, as a multiple of ew",
            # Room for the text at the end of the longest bar.
            scale=alt.Scale(domain=[0, 1.4 * max(float(str(row["ratio"])) for row in rows)]),
            axis=alt.Axis(tickCount=5),
        ),
        tooltip=[
            alt.Tooltip("label:N", title="method"),
            alt.Tooltip("text:N", title="time of a step"),
        ],
    )
    bars = base.mark_bar(opacity=0.8, height=9).encode(color=alt.Color("color:N", scale=None))
    labels = base.mark_text(align="left", dx=4, color=SOFT).encode(text="text:N")
    return sized(bars + labels, height=22 * len(rows))


def _passes(count: float) -> str:
    return f"{count:.3g} backward pass" + ("" if round(count, 2) == 1 else "es")


def sized(chart: Any, height: int) -> Spec:
    """The chart as wide as its place on the page."""
    wide = chart.properties(width="container", height=height, background="transparent")
    return dict(wide.to_dict())
