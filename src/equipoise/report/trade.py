"""Quality against cost: Delta_m against the time of a training step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import numpy as np

from equipoise.report.figures import colors_of, has, named, reach, zero_line
from equipoise.report.look import ACCENT, INK, SOFT, Row, Spec, short, sized
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
    names = [
        base.transform_filter(f"datum.spot == {number}")
        .mark_text(align=side, dx=7 if side == "left" else -7, dy=dy, fontSize=11)
        .encode(x=x, y=y, text="short:N", color=alt.value(INK))
        for number, (side, dy) in enumerate(SPOTS)
        if has(rows, "spot", number)
    ]
    return sized(alt.layer(zero_line("y"), heights, widths, dots, *names), height=HEIGHT)


_SPAN = ("value", "low", "high")
# Where a name may stand beside its point: on which side it begins, and how far below.
SPOTS = (("left", -7), ("left", 7), ("right", -7), ("right", 7), ("left", -16), ("right", 16))
HEIGHT, NARROW = 330, 290


def _place_labels(rows: list[Row]) -> None:
    """Writes names beside the points where they run into nothing; the rest have the hover.

    Reckoned in pixels of a figure as narrow as on a phone.
    """
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
    taken = [(x - 4, x + 4, y - 4, y + 4) for x, y in points]
    order = sorted(
        range(len(rows)),
        key=lambda i: (rows[i]["label"] not in ("single-task", "ew"), rows[i]["said"][0] != "n"),
    )
    for place in order:
        (x, y), row = points[place], rows[place]
        row["short"], row["spot"] = short(row["label"], 20), -1
        width = 6.2 * len(row["short"])
        for spot, (side, dy) in enumerate(SPOTS):
            start = x + 7 if side == "left" else x - 7 - width
            box = (start, start + width, y + dy - 6, y + dy + 6)
            inside = start >= -20 and start + width <= NARROW + 20
            if inside and not any(_meet(box, other) for other in taken):
                taken.append(box)
                row["spot"] = spot
                break


def _meet(one: Sequence[float], other: Sequence[float]) -> bool:
    across = one[0] < other[1] and other[0] < one[1]
    return across and one[2] < other[3] and other[2] < one[3]
