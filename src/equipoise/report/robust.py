"""The comparison by other yardsticks: profiles of all runs, interquartile means, how the order lasts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import altair as alt

from equipoise.report.figures import colors_of, has
from equipoise.report.look import FAINT, Spec, sized
from equipoise.report.panels import HIGHLIGHTS, OTHERS
from equipoise.report.table import EMPTY, Cell, Table
from equipoise.study.analyses import Robust, Stability, profiles
from equipoise.study.statistics import Array, Estimate
from equipoise.study.verdict import interval, signed
from equipoise.study.words import p_value


def profile_chart(values: Mapping[str, Array], shown: Sequence[str], title: str) -> Spec | None:
    """The share of each arm's runs above every threshold: the arms ``shown`` in colour, the others faint."""
    if not values or len({float(each) for own in values.values() for each in own.ravel()}) < 2:
        return None
    thresholds, shares = profiles(values)
    rows = [
        {
            "threshold": float(at),
            "share": 100 * float(share),
            "arm": label,
            "color": label if label in shown else OTHERS,
        }
        for label, own in shares.items()
        for at, share in zip(thresholds, own, strict=True)
    ]
    colors = {**dict(zip(shown, HIGHLIGHTS, strict=False)), OTHERS: FAINT}
    base = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(clip=True, interpolate="step-before")
        .encode(
            x=alt.X("threshold:Q", title=title, scale=alt.Scale(nice=False, zero=False)),
            y=alt.Y("share:Q", title="runs above, %", scale=alt.Scale(domain=[0, 100])),
            color=colors_of(
                "color", {name: colors[name] for name in colors if has(rows, "color", name)}
            ),
            detail="arm:N",
            tooltip=[
                alt.Tooltip("arm:N", title="method"),
                alt.Tooltip("threshold:Q", title="threshold", format="+.1f"),
                alt.Tooltip("share:Q", title="runs above, %", format=".0f"),
            ],
        )
    )
    back = base.transform_filter(f"datum.color == '{OTHERS}'")
    front = base.transform_filter(f"datum.color != '{OTHERS}'")
    return sized(back + front, height=220)


def robust_table(
    told: Sequence[Robust], baseline: str, flat: Mapping[str, float] | None = None
) -> Table | None:
    """One row an arm, the best interquartile mean first.

    Args:
        told: of the arms.
        baseline: that they were set against.
        flat: Delta_m as the mean over metrics instead of tasks, where the two differ.
    """
    if not told:
        return None
    rows = []
    for each in sorted(told, key=lambda one: -one.iqm.value):
        row = [Cell(each.label), Cell(interval(each.iqm))]
        if baseline:
            row += [Cell(_chance(each.chance)), Cell(p_value(each.flips))]
        if flat is not None:
            row.append(Cell(signed(flat[each.label])))
        rows.append(row)
    columns, units = ["method", "interquartile mean"], ["", "% ↑ [95 %]"]
    if baseline:
        columns += [f"a run beats one of {baseline}", "sign flips"]
        units += ["chance, % [95 %]", "p, each by itself"]
    if flat is not None:
        columns.append("Delta_m, every metric alike")
        units.append("% ↑")
    return Table(columns, rows, units)


def _chance(estimate: Estimate | None) -> str:
    if estimate is None:
        return EMPTY
    value = f"{100 * estimate.value:.0f}"
    if not math.isfinite(estimate.low):
        return value
    return f"{value} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"


def stability_table(told: Sequence[Stability]) -> Table | None:
    """One row for each thing that is left out, the one that changes the order most first."""
    if not told:
        return None
    rows = [
        [
            Cell(each.left_out),
            Cell(each.kind),
            Cell(f"{each.tau:.2f}".replace("-", "−") if math.isfinite(each.tau) else EMPTY),
            Cell(each.best),
        ]
        for each in sorted(told, key=lambda one: one.tau if math.isfinite(one.tau) else 2.0)
    ]
    units = ["", "", "1: as with all", "then"]
    return Table(["without", "which is a", "order (Kendall's tau)", "best"], rows, units)
