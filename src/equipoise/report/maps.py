"""Maps for many tasks, where lines would be a tangle: tasks by epochs, and tasks by tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from equipoise.report.look import ACCENT, PAPER, WORSE, Row, Spec, shortened, sized

# Shares of this many times the equal one, or of its inverse, have the full colour.
FULL = 8
# The legend of such shares, for a map that stands alone.
SHARES: dict[str, Any] = {
    "orient": "bottom",
    "gradientLength": 180,
    "values": [-math.log2(FULL), 0, math.log2(FULL)],
    "labelExpr": "(datum.value < 0 ? '1/' : '') + format(pow(2, abs(datum.value)), '~g')",
}


def weights(rows: Sequence[Row], tasks: Sequence[str]) -> Spec | None:
    """Share of each task in the weights by epoch, against an equal share.

    Args:
        rows: with ``task``, ``epoch`` and ``share``.
        tasks: all K, in their order.
    """
    if not rows:
        return None
    values = [{**row, "times": math.log2(max(row["share"] * len(tasks), 1e-6))} for row in rows]
    ends = math.log2(FULL)
    color = alt.Color(
        "times:Q",
        scale=alt.Scale(
            domain=[-ends, 0, ends], range=[WORSE, PAPER, ACCENT], clamp=True, interpolate="rgb"
        ),
        legend=None,
        title="weight, × an equal share",
    )
    tips = [alt.Tooltip("share:Q", title="share", format=".3~f")]
    return _epochs(values, tasks, color, tips)


def norms(rows: Sequence[Row], tasks: Sequence[str]) -> Spec | None:
    """Norm of each task gradient by epoch, on a logarithmic scale."""
    if not rows:
        return None
    color = alt.Color(
        "value:Q",
        scale=alt.Scale(type="log", range=[PAPER, ACCENT], nice=False, interpolate="rgb"),
        title="norm (logarithmic)",
        legend=alt.Legend(orient="bottom", gradientLength=180, format="~g", tickCount=3),
    )
    return _epochs(rows, tasks, color, [alt.Tooltip("value:Q", title="norm", format=".3~g")])


def _epochs(
    rows: Sequence[Row], tasks: Sequence[str], color: alt.Color, tips: list[alt.Tooltip]
) -> Spec:
    chart = (
        alt.Chart(alt.InlineData(values=list(rows)))
        .mark_rect()
        .encode(
            x=alt.X(
                "epoch:O",
                title="epoch",
                axis=alt.Axis(labelAngle=0, labelOverlap=True, ticks=False, domain=False),
            ),
            y=_tasks("y", "task", tasks),
            color=color,
            tooltip=["task:N", "epoch:O", *tips],
        )
    )
    return sized(chart, height=_side(tasks))


def cosines(rows: Sequence[Row], tasks: Sequence[str]) -> Spec | None:
    """Cosine of every pair of task gradients.

    Args:
        rows: with ``one``, ``other`` and ``value``, one a pair.
        tasks: all K, in their order.
    """
    if not rows:
        return None
    both = [*rows, *({**row, "one": row["other"], "other": row["one"]} for row in rows)]
    chart = (
        alt.Chart(alt.InlineData(values=both))
        .mark_rect()
        .encode(
            x=_tasks("x", "other", tasks),
            y=_tasks("y", "one", tasks),
            color=alt.Color(
                "value:Q",
                scale=alt.Scale(domain=[-1, 0, 1], range=[WORSE, PAPER, ACCENT], interpolate="rgb"),
                title="cosine",
                legend=alt.Legend(orient="bottom", gradientLength=180, values=[-1, 0, 1]),
            ),
            tooltip=[
                alt.Tooltip("one:N", title="task"),
                alt.Tooltip("other:N", title="and"),
                alt.Tooltip("value:Q", title="cosine", format="+.2f"),
            ],
        )
    )
    return sized(chart, height=max(_side(tasks), 200))


def _tasks(channel: str, field: str, tasks: Sequence[str]) -> alt.X | alt.Y:
    small = len(tasks) > 24
    across = channel == "x"
    axis = alt.Axis(
        labelExpr=shortened(tasks, 16 if across else 20),
        labelLimit=90 if across else 120,
        labelAngle=-90 if across else 0,
        labelFontSize=8 if small else 10,
        labelOverlap=across,
        ticks=False,
        domain=False,
    )
    kind = alt.X if across else alt.Y
    return kind(f"{field}:N", sort=list(tasks), title=None, axis=axis)


def _side(tasks: Sequence[str]) -> int:
    return len(tasks) * (11 if len(tasks) > 24 else 15)
