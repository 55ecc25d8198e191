"""Fronts of fixed weights with every method beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np

from equipoise.report.figures import colors_of, forest
from equipoise.report.labels import NARROW, beside, spots
from equipoise.report.look import BETTER, INK, SOFT, TASKS, WORSE, Row, Spec, short, sized
from equipoise.report.table import EMPTY, Cell, Table
from equipoise.study import Findings
from equipoise.study.analyses import Front, Method
from equipoise.study.labels import is_frozen, moving
from equipoise.study.statistics import Difference
from equipoise.study.verdict import interval, signed
from equipoise.study.words import p_value

HEIGHT = 340
STAY = "fixed weights"
# Shapes of Vega and the signs that look like them; there are eight colours for each.
PLAIN = (("circle", "●"), ("square", "■"), ("triangle-up", "▲"), ("diamond", "◆"))
FROZEN = (("cross", "✚"), ("triangle-down", "▼"), ("triangle-left", "◀"), ("triangle-right", "▶"))


def front_chart(front: Front, i: int, j: int) -> Spec:
    """Two objectives of a front: fixed weights, the line and band of the front, and every method."""
    x, y = front.objectives[i], front.objectives[j]
    axis_of: tuple[dict[str, Any], ...] = tuple(
        {
            "title": front.objectives[k],
            "axis": alt.Axis(tickCount=6),
            "scale": alt.Scale(domain=_domain(front, k), zero=False),
        }
        for k in (i, j)
    )
    across, up = axis_of
    axes: dict[str, Any] = {"x": alt.X("x:Q", **across), "y": alt.Y("y:Q", **up)}
    fixed = [
        {
            "x": float(point.mean[i]),
            "y": float(point.mean[j]),
            "on": bool(on),
            "who": STAY,
            "setting": f"{point.candidate.told('weights')}, lr {point.candidate.learning_rate:g}",
            "trials": _trials(point.trials),
        }
        for point, on in zip(front.points, front.on, strict=True)
    ]
    tips = [
        alt.Tooltip("who:N", title="method"),
        alt.Tooltip("setting:N", title="setting"),
        alt.Tooltip("x:Q", title=x, format=".4~g"),
        alt.Tooltip("y:Q", title=y, format=".4~g"),
        alt.Tooltip("trials:N", title="trials"),
    ]
    base = alt.Chart(alt.InlineData(values=fixed)).encode(**axes, tooltip=tips)
    dots = base.mark_point(filled=True, clip=True, color=SOFT).encode(
        size=alt.condition("datum.on", alt.value(45), alt.value(14)),
        opacity=alt.condition("datum.on", alt.value(1.0), alt.value(0.45)),
    )
    layers = [dots]
    if len(front.objectives) == 2:
        # What is reached at x, as the band says it too.
        step = "step-before" if front.higher[i] else "step-after"
        line = base.transform_filter("datum.on").mark_line(
            color=SOFT, clip=True, interpolate=step, strokeWidth=1.5
        )
        layers.insert(0, line)
        if front.band is not None:
            layers.insert(0, _band(front.band, axes, up))
    marks = key(front)
    placed = [_placed(method, i, j) for method in front.methods]
    _place_labels(placed, [_domain(front, k) for k in (i, j)])
    points = alt.Chart(alt.InlineData(values=placed)).encode(
        **axes, tooltip=tips, color=colors_of("who", {mark.name: mark.color for mark in marks})
    )
    shapes = alt.Scale(domain=[mark.name for mark in marks], range=[mark.shape for mark in marks])
    layers += [
        points.mark_rule(clip=True, opacity=0.5).encode(x=alt.X("left:Q", **across), x2="right:Q"),
        points.mark_rule(clip=True, opacity=0.5).encode(y=alt.Y("low:Q", **up), y2="high:Q"),
        points.transform_filter("datum.beyond")
        .mark_point(size=200, clip=True, opacity=1, color=BETTER, strokeWidth=2, shape="circle")
        .encode(color=alt.value(BETTER)),
        points.mark_point(size=60, clip=True, opacity=1, filled=True).encode(
            shape=alt.Shape("who:N", scale=shapes, legend=None)
        ),
        *beside(points, placed, axes["x"], axes["y"]),
    ]
    return sized(alt.layer(*layers), height=HEIGHT)


@dataclass(frozen=True)
class Mark:
    """How a method is drawn: its colour, its shape, and that shape as a sign for text."""

    name: str
    color: str
    shape: str
    sign: str


def key(front: Front) -> list[Mark]:
    """Fixed weights and every method; a frozen one has its colour in another shape."""
    arms = [each.label for each in front.methods if not is_frozen(each.label)]
    colored = [label for label in arms if label != "ew"]
    marks = [Mark(STAY, SOFT, *PLAIN[0])]
    for each in front.methods:
        label = moving(each.label)
        kinds = PLAIN if label == each.label else FROZEN
        number = colored.index(label) if label in colored else 0
        color = TASKS[number % len(TASKS)] if label in colored else INK
        marks.append(Mark(each.label, color, *kinds[number // len(TASKS) % len(kinds)]))
    return marks


def _placed(method: Method, i: int, j: int) -> Row:
    spread = method.values.std(axis=0, ddof=1) if len(method.values) > 1 else 0 * method.mean
    error = spread / np.sqrt(len(method.values))
    x, y = float(method.mean[i]), float(method.mean[j])
    return {
        "x": x,
        "y": y,
        "left": x - float(error[i]),
        "right": x + float(error[i]),
        "low": y - float(error[j]),
        "high": y + float(error[j]),
        "who": method.label,
        "short": short(method.label, 20),
        "setting": "chosen by each seed",
        "trials": _trials(method.trials),
        "beyond": method.shown(),
    }


def _place_labels(rows: list[Row], ends: Sequence[Sequence[float]]) -> None:
    """Writes names of methods beside the points where they run into nothing; the key names all."""
    (left, right), (low, high) = ends
    points = [
        (
            NARROW * (row["x"] - left) / (right - left),
            HEIGHT * (high - row["y"]) / (high - low),
        )
        for row in rows
    ]
    inside = [0 <= x <= NARROW and 0 <= y <= HEIGHT for x, y in points]
    order = sorted(
        (
            place
            for place, there in enumerate(inside)
            if there and not is_frozen(rows[place]["who"])
        ),
        key=lambda place: not rows[place]["beyond"],
    )
    found = spots(points, [row["short"] for row in rows], order)
    for row, spot in zip(rows, found, strict=True):
        row["spot"] = spot


def _band(band: Any, axes: dict[str, Any], up: dict[str, Any]) -> Any:
    rows = [
        {"x": float(x), "low": float(low), "high": float(high)}
        for x, low, high in zip(*band, strict=True)
    ]
    return (
        alt.Chart(alt.InlineData(values=rows))
        .mark_area(opacity=0.16, color=SOFT, clip=True, interpolate="step-after")
        .encode(x=axes["x"], y=alt.Y("low:Q", **up), y2="high:Q")
    )


def _domain(front: Front, k: int) -> list[float]:
    """What holds the front and the methods; a bad learning rate far away must not flatten them."""
    near = [point.mean[k] for point, on in zip(front.points, front.on, strict=True) if on]
    others = [method.mean[k] for method in front.methods]
    low, high = min(near), max(near)
    least = 0.02 * max(abs(low), abs(high), 1e-6)
    room = 1.5 * max(high - low, least)
    near += [value for value in others if low - room <= value <= high + room]
    # A front of one point, or with one value, has an axis too.
    pad = max(0.08 * (max(near) - min(near)), least)
    return [float(min(near) - pad), float(max(near) + pad)]


def _trials(ids: Sequence[str]) -> str:
    return " ".join(each[:8] for each in ids)


def front_table(front: Front) -> Table:
    """One row a method: how far beyond the front, how often by chance of seeds, and whether it is shown."""
    rows = []
    for method in sorted(front.methods, key=lambda each: -each.beyond):
        p = p_value(method.p_holm)
        said = EMPTY if p == EMPTY else "beyond" if method.shown() else "not shown"
        rows.append(
            [
                Cell(method.label),
                *(Cell(f"{value:.4g}".replace("-", "−")) for value in method.mean),
                Cell(f"{signed(100 * method.beyond, 0)} ± {100 * method.error:.0f}"),
                Cell(f"{100 * method.distance:.0f}"),
                Cell(f"{100 * method.chance:.0f}"),
                Cell(p),
                Cell(said, "better" if method.shown() else "undecided"),
            ]
        )
    columns = [
        "method",
        *front.objectives,
        "beyond the front",
        "distance",
        "draws beyond",
        "p",
        "shown",
    ]
    arrows = ["↑" if up else "↓" for up in front.higher]
    units = ["", *arrows, "% of its extent ± error", "% of its extent", "%", "Holm", ""]
    return Table(columns, rows, units)


def said(found: Findings, label: str, gap: Difference) -> str:
    """What was shown of moving weights.

    An arm that lost a run is never called better, nor is what it was compared with called worse.
    """
    whole = found.arm(label).complete and found.frozen[label].complete
    if not gap.shown() or not whole:
        return "not shown"
    return "better" if gap.value > 0 else "worse"


def frozen_chart(found: Findings) -> Spec | None:
    """Dynamic weights minus their means as fixed weights, in Delta_m."""
    rows: list[Row] = [
        {
            "label": label,
            "value": gap.value,
            "low": gap.low if np.isfinite(gap.low) else gap.value,
            "high": gap.high if np.isfinite(gap.high) else gap.value,
            "text": interval(gap),
            "setting": "",
            "said": said(found, label, gap),
        }
        for label, gap in found.thawed.items()
        if np.isfinite(gap.value)
    ]
    runs: list[Row] = [
        {
            "label": label,
            "setting": "",
            "run": float(own - other),
            "trial": f"{moving.id[:12]}, {still.id[:12]}",
            "seed": moving.seed,
        }
        for label, each in found.frozen.items()
        for own, other, moving, still in zip(
            found.arm(label).deltas,
            each.deltas,
            found.arm(label).trials,
            each.trials,
            strict=True,
        )
        if moving is not None and still is not None and np.isfinite(own - other)
    ]
    colors = {"better": BETTER, "worse": WORSE, "not shown": SOFT}
    title = "Δm minus that of its own mean weights, points"
    return forest(rows, runs, title, colors, [("said:N", "moving weights")])
