"""What a study shows at the settings of its sweep."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np

from equipoise.report.look import ACCENT, INK, Row, Spec, short, sized
from equipoise.report.table import EMPTY, Cell, Table
from equipoise.study.analyses import Size
from equipoise.study.verdict import interval, signed

HEIGHT = 320


def sizes_chart(told: Sequence[Size]) -> Spec | None:
    """Delta_m of every arm at every setting of the sweep."""
    rows = [
        {
            "setting": each.setting,
            "label": label,
            "value": delta.value,
            "text": interval(delta),
            "color": INK if label == "ew" else ACCENT,
        }
        for each in told
        for label, delta in each.deltas.items()
        if np.isfinite(delta.value)
    ]
    if not rows:
        return None
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X(
            "setting:O",
            sort=[each.setting for each in told],
            title=None,
            axis=alt.Axis(labelAngle=0),
        ),
        y=alt.Y("value:Q", title="Δm, %", scale=alt.Scale(zero=False)),
        color=alt.Color("color:N", scale=None),
        detail="label:N",
        tooltip=["label:N", "setting:N", alt.Tooltip("text:N", title="Δm")],
    )
    lines = base.mark_line(opacity=0.5)
    dots = base.mark_point(filled=True, size=45, opacity=1)
    ends = alt.Chart(alt.InlineData(values=_spread_out(rows, told[-1].setting))).encode(
        x=alt.X("setting:O", sort=[each.setting for each in told], title=None),
        y=alt.Y("at:Q", title="Δm, %", scale=alt.Scale(zero=False)),
        color=alt.Color("color:N", scale=None),
    )
    names_ = ends.mark_text(align="left", dx=8, fontSize=11).encode(text="label:N")
    return sized(lines + dots + names_, height=HEIGHT)


def _spread_out(rows: Sequence[Row], setting: str) -> list[Row]:
    """Where the names at the last setting stand, so that none covers another."""
    values = [float(row["value"]) for row in rows]
    gap = 14 / HEIGHT * (max(values) - min(values))
    ends = sorted(
        (r for r in rows if r["setting"] == setting), key=lambda row: -float(row["value"])
    )
    placed: list[Row] = []
    for row in ends:
        at = float(row["value"])
        if placed:
            at = min(at, float(placed[-1]["at"]) - gap)
        placed.append({**row, "at": at, "label": short(str(row["label"]))})
    return placed


def sizes_table(told: Sequence[Size]) -> Table | None:
    """The spread between methods, and whether a front dominates the one before, at every setting."""
    if not told:
        return None
    kinds = list(dict.fromkeys(kind for each in told for kind in each.epsilon))
    rows = []
    for each in told:
        best = max(each.deltas, key=lambda label: _known(each.deltas[label].value))
        rows.append(
            [
                Cell(each.setting),
                Cell(f"{each.spread:.2f}" if np.isfinite(each.spread) else EMPTY),
                Cell(f"{best} {interval(each.deltas[best])}"),
                *(
                    Cell(EMPTY if kind not in each.epsilon else signed(100 * each.epsilon[kind], 0))
                    for kind in kinds
                ),
            ]
        )
    columns = ["setting", "spread between methods", "best", *(f"front of {k}" for k in kinds)]
    units = ["", "sd of Delta_m, points", "Delta_m", *["% short of the one above"] * len(kinds)]
    return Table(columns, rows, units)


def _known(value: float) -> float:
    return value if np.isfinite(value) else -np.inf
