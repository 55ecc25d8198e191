"""What a report shows beyond the comparison: fronts, sensitivity, size, the way to the minimum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np

from equipoise.report import numbers
from equipoise.report.figures import colors_of, names
from equipoise.report.fronts import front_table
from equipoise.report.look import ACCENT, FAINT, INK, SOFT, TASKS, Row, Spec, sized
from equipoise.report.robust import robust_table, stability_table
from equipoise.report.sweep import sizes_table
from equipoise.report.table import EMPTY, Cell, Table
from equipoise.study import Findings, Store
from equipoise.study.analyses import (
    Convergence,
    Flatness,
    Front,
    Robust,
    Size,
    Sparse,
    Stability,
    convergence,
    flatness,
    fronts,
    robust_of,
    sizes,
    sparse_grids,
    stability_of,
    variance_of,
)
from equipoise.study.verdict import interval

OTHERS = "the others"
# Of the lines of training losses.
GROUPS = {"ew": INK, "rlw": TASKS[1], "rgw": TASKS[3], OTHERS: FAINT}
# Interactions below this share of the variance are told together.
SMALL = 0.005


@dataclass(frozen=True)
class Seen:
    """What was looked into; empty where the study has nothing to say of it.

    Attributes:
        fronts: of fixed weights, where they were tried all along.
        shares: of the variance, by the factors that take part.
        shared: labels of the arms that these are of.
        sparse: grids of learning rates, by arm.
        sizes: of the sweep.
        convergence: of the training losses.
        flatness: of the minima.
        robust: the arms by other yardsticks.
        stability: the order of the arms with one task or arm left out.
    """

    fronts: list[Front]
    shares: dict[tuple[str, ...], float]
    shared: list[str]
    sparse: list[Sparse]
    sizes: list[Size]
    convergence: list[Convergence]
    flatness: list[Flatness]
    robust: list[Robust]
    stability: list[Stability]

    @property
    def grids(self) -> str:
        """The sparse grids of the first arm, in words."""
        grids = self.sparse[0].grids if self.sparse else ()
        return " or ".join(", ".join(f"{rate:g}" for rate in grid) for grid in grids)


NOTHING = Seen([], {}, [], [], [], [], [], [], [])


def look(store: Store, found: Findings) -> Seen:
    """Looks into everything that there is."""
    shares, labels = variance_of(found)
    beside = fronts(found) if found.brute_force else []
    return Seen(
        fronts=beside,
        shares=shares,
        shared=labels,
        sparse=sparse_grids(found),
        sizes=sizes(store, found, beside),
        convergence=convergence(found),
        flatness=flatness(found),
        robust=robust_of(found),
        stability=stability_of(found),
    )


def tables(found: Findings, seen: Seen) -> dict[str, Table]:
    """The tables by name."""
    named = {f"front {front.kind}": front_table(front) for front in seen.fronts}
    # Where every task has one metric, the two means are one.
    several = len(found.measures) > len(found.single)
    flat = {each.arm.label: each.flat for each in found.arms} if several else None
    baseline = found.baselines[0] if found.baselines else ""
    more = {
        "robust": robust_table(seen.robust, baseline, flat),
        "stability": stability_table(seen.stability),
        "spreads": sizes_table(seen.sizes),
        "minima": minima_table(found, seen),
        "frozen": numbers.frozen(found),
        "settings": numbers.settings(seen.sizes),
        "variance": numbers.variance(seen.shares),
        "sparse": numbers.sparse(seen.sparse),
        "curves": numbers.curves(found),
        "weights": numbers.weights(found),
        "gradients": numbers.gradients(found),
        "rates": numbers.rates(found),
    }
    return {**named, **{name: each for name, each in more.items() if each is not None}}


def variance_chart(shares: dict[tuple[str, ...], float]) -> Spec | None:
    """Shares of the variance of Delta_m, the largest first; interactions with next to none are one bar."""
    named = {f: share for f, share in shares.items() if len(f) == 1 or share >= SMALL}
    left = len(shares) - len(named)
    if left:
        named[f"{left} other interactions",] = sum(shares.values()) - sum(named.values())
    rows = [
        {
            "label": " × ".join(factors).replace("learning rate", "rate"),
            "share": 100 * share,
            "text": f"{100 * share:.1f} %",
        }
        for factors, share in named.items()
    ]
    return _bars(rows, "share", "share of the variance of Δm on test, %")


def sparse_chart(told: Sequence[Sparse]) -> Spec | None:
    """Spread over sparse grids of learning rates beside the spread over seeds."""
    rows = [
        {"label": each.label, "value": value, "kind": kind, "text": f"{value:.2f}"}
        for each in told
        for kind, value in (("grids", each.between_grids), ("seeds", each.between_seeds))
    ]
    if not rows:
        return None
    order = [each.label for each in sorted(told, key=lambda each: -each.between_grids)]
    colors = alt.Scale(domain=["grids", "seeds"], range=[ACCENT, SOFT])
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_point(filled=True, size=60, opacity=1)
        .encode(
            y=names(order),
            x=alt.X("value:Q", title="standard deviation of Δm, points"),
            color=alt.Color(
                "kind:N", scale=colors, title="between", legend=alt.Legend(orient="top")
            ),
            tooltip=["label:N", "kind:N", alt.Tooltip("text:N", title="standard deviation")],
        )
    )
    return sized(chart, height=22 * len(order))


def _bars(rows: list[Row], field: str, title: str) -> Spec | None:
    if not rows:
        return None
    rows.sort(key=lambda row: -float(row[field]))
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=names([str(row["label"]) for row in rows]),
        x=alt.X(
            f"{field}:Q",
            title=title,
            scale=alt.Scale(domain=[0, 1.2 * max(float(row[field]) for row in rows)]),
            axis=alt.Axis(tickCount=5),
        ),
        tooltip=["label:N", alt.Tooltip("text:N", title="share")],
    )
    labels = base.mark_text(align="left", dx=4, color=SOFT).encode(text="text:N")
    return sized(base.mark_bar(opacity=0.8, height=9, color=ACCENT) + labels, 22 * len(rows))


def convergence_key(told: Sequence[Convergence]) -> dict[str, str]:
    """Colours of the arms that stand out, and of the others, as far as they are there."""
    present = {_group(each.label) for each in told}
    return {name: color for name, color in GROUPS.items() if name in present}


def _group(label: str) -> str:
    name = label.partition(" ")[0]
    return name if name in GROUPS else OTHERS


def convergence_chart(told: Sequence[Convergence]) -> Spec | None:
    """Training loss against examples seen."""
    rows = [
        {
            "samples": float(samples),
            "loss": float(loss),
            "label": each.label,
            "group": _group(each.label),
        }
        for each in told
        for samples, loss in zip(each.samples, each.losses, strict=True)
        if loss > 0
    ]
    if not rows or len(told[0].samples) < 2:
        return None
    base = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(strokeWidth=2, clip=True)
        .encode(
            x=alt.X("samples:Q", title="training examples forwarded", axis=alt.Axis(tickCount=5)),
            y=alt.Y(
                "loss:Q",
                title="training loss, share of that before training",
                scale=alt.Scale(type="log", nice=False),
            ),
            color=colors_of("group", convergence_key(told)),
            detail="label:N",
            tooltip=["label:N", "samples:Q", alt.Tooltip("loss:Q", format=".3~f")],
        )
    )
    back = base.transform_filter(f"datum.group == '{OTHERS}'")
    return sized(back + base.transform_filter(f"datum.group != '{OTHERS}'"), height=300)


def minima_table(found: Findings, seen: Seen) -> Table | None:
    """One row an arm: examples until it was where equal weights end, and how flat the minimum is."""
    flat = {each.label: each for each in seen.flatness}
    needed = {
        each.label: each.needed
        for each in seen.convergence
        if np.isfinite(each.needed) or each.needed > 0
    }
    if not needed and not flat:
        return None
    rows = []
    for entry in found.arms:
        label = entry.arm.label
        if label not in needed and label not in flat:
            continue
        share = needed.get(label, float("nan"))
        text = "never" if share == float("inf") else f"{share:.2f}" if share == share else EMPTY
        cells = [Cell(label), Cell(text)]
        if flat:
            own = flat.get(label)
            gap = None if own is None else own.against
            kind = (
                ""
                if gap is None
                else "undecided"
                if not gap.shown()
                else ("better" if gap.value < 0 else "worse")
            )
            cells += [
                Cell(EMPTY if own is None else interval(own.rise)),
                Cell(EMPTY if gap is None else interval(gap), kind),
            ]
        rows.append(cells)
    columns = ["method", "examples to the end of ew"]
    units = ["", "share of all that ew saw"]
    if flat:
        columns += ["rise of the loss", "minus that of ew"]
        units += ["% at a random step", "points"]
    return Table(columns, rows, units)
