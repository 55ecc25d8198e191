"""Quality against cost: Delta_m against the time of a training step."""

from __future__ import annotations

import math

import altair as alt
import numpy as np

from equipoise.report.figures import colors_of, named, reach, zero_line
from equipoise.report.labels import NARROW, beside, spots
from equipoise.report.look import ACCENT, SOFT, Row, Spec, short, sized
from equipoise.study import Findings


def quality_and_cost(found: Findings) -> Spec | None:
    """Delta_m against the time of a step; lines are its interval, and the fastest and slowest run."""
    rows = []
    for each in found.arms:
        if each.spent and np.isfinite([each.delta.value, each.spent.ratio]).all():
            row = {**named(each), **reach(each.delta), "ratio": each.spent.ratio}
            times = each.spent.ratios
            rows.append({**row, "fast": min(times), "slow": max(times)})
    if len(rows) < 2:
        return None
    alone = [each.spent.ratio for each in found.single.values() if each.spent]
    if found.reference != "ew" and len(alone) == len(found.single) and np.isfinite(alone).all():
        together = {"label": "single-task", "setting": "the networks of all tasks", "text": "0"}
        at = sum(alone)
        rows.append({**together, "ratio": at, "fast": at, "slow": at} | dict.fromkeys(_SPAN, 0.0))
    for row in rows:
        ahead = any(
            other["ratio"] <= row["ratio"] and other["value"] > row["value"] for other in rows
        )
        row["said"] = "another is faster and better" if ahead else "nothing is faster and better"
        row["cost"] = f"{row['ratio']:.2f} ({row['fast']:.2f} to {row['slow']:.2f})"
    _place_labels(rows)
    spread = max(row["slow"] for row in rows) / min(row["fast"] for row in rows)
    # A little room on both sides, for the names.
    ends = [0.93 * min(row["fast"] for row in rows), 1.07 * max(row["slow"] for row in rows)]
    scale = alt.Scale(type="log" if spread > 3 else "linear", domain=ends, nice=False)
    axis = alt.Axis(tickCount=5, format="~g", grid=False)
    x = alt.X(
        "ratio:Q", title="time of a step, × that of ew (left is faster)", scale=scale, axis=axis
    )
    y = alt.Y("value:Q", title="Δm, % (up is better)", scale=alt.Scale(zero=False))
    said = {"nothing is faster and better": ACCENT, "another is faster and better": SOFT}
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        color=colors_of("said", said),
        tooltip=[
            alt.Tooltip("label:N", title="method"),
            alt.Tooltip("setting:N", title="setting"),
            alt.Tooltip("text:N", title="Δm"),
            alt.Tooltip("cost:N", title="time"),
        ],
    )
    heights = base.mark_rule(opacity=0.45).encode(x=x, y=alt.Y("low:Q"), y2="high:Q")
    widths = base.mark_rule(opacity=0.45).encode(x=alt.X("fast:Q"), x2="slow:Q", y=y)
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y)
    names = beside(base, rows, x, y)
    return sized(alt.layer(zero_line("y"), heights, widths, dots, *names), height=HEIGHT)


_SPAN = ("value", "low", "high")
HEIGHT = 330


def _place_labels(rows: list[Row]) -> None:
    """Writes names beside the points where they run into nothing; the rest have the hover."""
    low, high = (f(row[end] for row in rows) for f, end in ((min, "low"), (max, "high")))
    times = [math.log(row["ratio"]) for row in rows]
    across_all = max(times) - min(times) or 1.0
    points = [
        (
            NARROW * (math.log(row["ratio"]) - min(times)) / across_all,
            HEIGHT * (high - row["value"]) / ((high - low) or 1.0),
        )
        for row in rows
    ]
    order = sorted(
        range(len(rows)),
        key=lambda i: (rows[i]["label"] not in ("single-task", "ew"), -rows[i]["value"]),
    )
    names = [short(row["label"], 20) for row in rows]
    for row, name, spot in zip(rows, names, spots(points, names, order), strict=True):
        row["short"], row["spot"] = name, spot
