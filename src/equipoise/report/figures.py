"""The large figures of a report: differences, Delta_m, cost, and quality against cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from equipoise.report.look import (
    ACCENT,
    BETTER,
    FAINT,
    INK,
    PAPER,
    SOFT,
    Row,
    Spec,
    short,
    shortened,
    sized,
)
from equipoise.report.tables import SAID, setting
from equipoise.study import ArmFindings, Findings
from equipoise.study.statistics import Estimate
from equipoise.study.verdict import interval, outcome

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
        rows.append({**_named(each), **_reach(gap), "said": said, "p": _p(gap.p_holm)})
        runs += [
            {**_named(each), "run": float(own - other), "trial": trial.id[:12], "seed": trial.seed}
            for own, other, trial in zip(each.deltas, base.deltas, each.trials, strict=True)
            if trial is not None and np.isfinite(own - other)
        ]
    title = f"Δm minus that of {baseline}, percentage points"
    told = [("said:N", "shown"), ("p:N", "p (Holm)")]
    return forest(rows, runs, title, OUTCOMES, told)


def deltas(found: Findings) -> Spec | None:
    """Delta_m against single-task networks with intervals, best first; a dot for every run."""
    arms = [each for each in found.arms if np.isfinite(each.delta.value)]
    rows = [
        {**_named(each), **_reach(each.delta), "said": "ew" if each.arm.label == "ew" else "others"}
        for each in arms
    ]
    runs = [
        {**_named(each), "run": float(own), "trial": trial.id[:12], "seed": trial.seed}
        for each in arms
        for own, trial in zip(each.deltas, each.trials, strict=True)
        if trial is not None and np.isfinite(own)
    ]
    return forest(rows, runs, "Δm, % (higher is better)", {"ew": INK, "others": ACCENT}, [])


def _named(each: ArmFindings) -> Row:
    return {"label": each.arm.label, "setting": setting(each)}


def _reach(estimate: Estimate) -> Row:
    return {
        "value": estimate.value,
        "low": estimate.low if np.isfinite(estimate.low) else estimate.value,
        "high": estimate.high if np.isfinite(estimate.high) else estimate.value,
        "text": interval(estimate),
    }


def _p(value: float) -> str:
    return "–" if not np.isfinite(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


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
        color=_colors("said", {name: c for name, c in colors.items() if _has(rows, "said", name)}),
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
    return sized(_zero("x") + bars + single + dots, height=ROW * len(rows))


def names(order: list[str]) -> alt.Y:
    """An axis of names in this order."""
    axis = alt.Axis(ticks=False, domain=False, labelExpr=shortened(order), labelLimit=170)
    return alt.Y("label:N", sort=order, title=None, axis=axis)


def _colors(field: str, colors: dict[str, str]) -> alt.Color:
    scale = alt.Scale(domain=list(colors), range=list(colors.values()))
    return alt.Color(f"{field}:N", scale=scale, legend=None)


def _has(rows: Sequence[Row], field: str, value: object) -> bool:
    return any(row[field] == value for row in rows)


def _zero(channel: str) -> Any:
    rule = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(color=INK, strokeWidth=1)
    return rule.encode(x="zero:Q") if channel == "x" else rule.encode(y="zero:Q")


def cost(found: Findings) -> Spec | None:
    """Time of a step as a multiple of that under equal weights."""
    rows = [
        {
            **_named(each),
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
            title="time of a step, × that of ew (backward passes)",
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
        color=_colors("said", {"ew": INK, "others": ACCENT})
    )
    labels = base.mark_text(align="left", dx=4, color=SOFT).encode(text="text:N")
    return sized(bars + labels, height=ROW * len(rows))


def ratios(found: Findings, each: ArmFindings) -> list[float]:
    """Time of a step as a multiple of that under equal weights, of every run that has a pair."""
    equal = next((other for other in found.arms if other.arm.label == "ew"), None)

    def times(arm: ArmFindings) -> list[float]:
        stored = [None if t is None else found.stored.get(t.id) for t in arm.trials]
        return [s.cost.step_ms if s and s.cost and s.status == "done" else math.nan for s in stored]

    if equal is None:
        return []
    pairs = zip(times(each), times(equal), strict=True)
    return [own / other for own, other in pairs if math.isfinite(own / other)]


def quality_and_cost(found: Findings) -> Spec | None:
    """Delta_m against the time of a step; lines are its interval, and the fastest and slowest run."""
    rows = []
    for each in found.arms:
        times = ratios(found, each)
        if each.spent and times and np.isfinite([each.delta.value, each.spent.ratio]).all():
            row = {**_named(each), **_reach(each.delta), "ratio": each.spent.ratio}
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
        color=_colors("said", said),
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
        if _has(rows, "spot", number)
    ]
    return sized(alt.layer(_zero("y"), heights, widths, dots, *names), height=HEIGHT)


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
    reach = max(times) - min(times) or 1.0
    points = [
        (
            NARROW * (math.log(row["ratio"]) - min(times)) / reach,
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
