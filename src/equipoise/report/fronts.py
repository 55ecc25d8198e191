"""Fronts of fixed weights with every method beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from equipoise.report.figures import forest
from equipoise.report.look import ACCENT, BETTER, INK, PAPER, SOFT, WORSE, Row, Spec, sized
from equipoise.report.table import EMPTY, Cell, Table
from equipoise.study import Findings
from equipoise.study.analyses import Front, Method
from equipoise.study.statistics import Difference
from equipoise.study.verdict import interval, signed


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
            "who": "fixed weights",
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
        layers.insert(0, base.transform_filter("datum.on").mark_line(color=SOFT, clip=True))
        if front.band is not None:
            layers.insert(0, _band(front.band, axes, up))
    # Names stand on the side where there is room.
    low, high = _domain(front, i)
    middle = low + 0.6 * (high - low)
    placed = [_placed(method, i, j) for method in front.methods]
    points = alt.Chart(alt.InlineData(values=placed)).encode(**axes, tooltip=tips)
    color = alt.Color("color:N", scale=None)
    layers += [
        points.mark_rule(clip=True, opacity=0.5).encode(
            x=alt.X("left:Q", **across), x2="right:Q", color=color
        ),
        points.mark_rule(clip=True, opacity=0.5).encode(
            y=alt.Y("low:Q", **up), y2="high:Q", color=color
        ),
        points.mark_point(size=60, clip=True, opacity=1, strokeWidth=1.5)
        .encode(color=color, fill="fill:N")
        .encode(fill=alt.Fill("fill:N", scale=None)),
        *(
            points.transform_filter(f"datum.named && {where}")
            .mark_text(align=align, dx=dx, dy=-5, fontSize=11, clip=True)
            .encode(text="who:N", color=color)
            for where, align, dx in (
                (f"datum.x < {middle}", "left", 7),
                (f"datum.x >= {middle}", "right", -7),
            )
        ),
    ]
    return sized(alt.layer(*layers), height=340)


def _placed(method: Method, i: int, j: int) -> Row:
    spread = method.values.std(axis=0, ddof=1) if len(method.values) > 1 else np.zeros(2)
    error = spread / np.sqrt(len(method.values)) if len(method.values) > 1 else 0 * method.mean
    still = method.label.startswith("frozen ")
    x, y = float(method.mean[i]), float(method.mean[j])
    color = BETTER if method.shown() else SOFT if still else ACCENT
    return {
        "x": x,
        "y": y,
        "left": x - float(error[i]),
        "right": x + float(error[i]),
        "low": y - float(error[j]),
        "high": y + float(error[j]),
        "who": method.label,
        "setting": "chosen by each seed",
        "trials": _trials(method.trials),
        "color": INK if method.label == "ew" else color,
        "fill": PAPER if still else INK if method.label == "ew" else color,
        "named": not still,
    }


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
        p = EMPTY if not np.isfinite(method.p_holm) else f"{method.p_holm:.3f}"
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
    title = "Delta_m minus that of its own mean weights, percentage points"
    return forest(rows, runs, title, colors, [("said:N", "moving weights")])
