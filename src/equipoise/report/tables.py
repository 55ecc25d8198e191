"""The tables of a report, and its numbers in long form."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.report.chosen import TUNED, by_seeds
from equipoise.report.table import EMPTY, Cell, Table
from equipoise.study import ArmFindings, Findings
from equipoise.study.selection import Measure
from equipoise.study.statistics import Estimate
from equipoise.study.verdict import MINUS, interval, outcome
from equipoise.study.words import p_value

COLUMNS = (
    *("problem_options", "method", "options", "arguments", "single_task", "stage", "seed"),
    *("learning_rate", "weight_decay", "epochs", "status"),
    *("epoch", "split", "task", "metric", "value", "trial"),
)
SAID = {
    "better": "better",
    "worse": "worse",
    "undecided": "not shown",
    "untested": "not tested",
}


def results(found: Findings) -> Table:
    """One row a method, best Delta_m first: Delta_m, every metric, rank, cost, chosen setting."""
    return _joined(found, [_delta, _metrics, _rank, _cost, _chosen])


def overview(found: Findings) -> Table:
    """As :func:`results` without the metrics of the tasks."""
    return _joined(found, [_delta, _rank, _cost, _chosen])


def per_task(found: Findings) -> Table:
    """As :func:`results` with the metrics of the tasks only."""
    return _joined(found, [_metrics])


@dataclass(frozen=True)
class Group:
    """Columns that belong together: names and units, the cells of the reference, those of each arm."""

    columns: list[str]
    units: list[str]
    reference: list[Cell]
    rows: list[list[Cell]]


def _joined(found: Findings, wanted: Sequence[Callable[..., Group]]) -> Table:
    arms = sorted(found.arms, key=lambda each: last_if_missing(-each.delta.value))
    groups = [group(found, arms) for group in wanted]
    first = [Cell("single-task", "control"), *(c for group in groups for c in group.reference)]
    rows = [
        [arm_name(arm), *(cell for group in groups for cell in group.rows[place])]
        for place, arm in enumerate(arms)
    ]
    columns = ["method", *(name for group in groups for name in group.columns)]
    return Table(columns, [first, *rows], ["", *(unit for g in groups for unit in g.units)])


def _delta(found: Findings, arms: Sequence[ArmFindings]) -> Group:
    best = _top([each.delta.value for each in arms])
    rows = [
        [
            Cell(
                interval(each.delta) if math.isfinite(each.delta.value) else EMPTY,
                "best" if place == best else "",
            )
        ]
        for place, each in enumerate(arms)
    ]
    return Group(["Delta_m"], ["% ↑"], [Cell("reference")], rows)


def _metrics(found: Findings, arms: Sequence[ArmFindings]) -> Group:
    columns = []
    for place, measure in enumerate(found.measures):
        sign = 1.0 if measure.higher_is_better else -1.0
        means = [each.metrics[place] for each in arms]
        best = _top([sign * mean.value if mean else math.nan for mean in means])
        columns.append(
            [Cell(number(mean), "best" if row == best else "") for row, mean in enumerate(means)]
        )
    return Group(
        [f"{measure.task} {measure.metric}" for measure in found.measures],
        [arrow(measure) for measure in found.measures],
        [
            Cell(number(found.single[measure.task].metrics[place]))
            for place, measure in enumerate(found.measures)
        ],
        [list(row) for row in zip(*columns, strict=True)],
    )


def _rank(found: Findings, arms: Sequence[ArmFindings]) -> Group:
    rows = [[Cell(f"{e.rank:.1f}" if math.isfinite(e.rank) else EMPTY)] for e in arms]
    return Group(["rank"], ["mean ↓"], [Cell(EMPTY)], rows)


def _cost(found: Findings, arms: Sequence[ArmFindings]) -> Group:
    def cells(ratio: float, passes: float) -> list[Cell]:
        texts = (f"{ratio:.2f}", f"{passes:.3g}")
        known = (math.isfinite(ratio), math.isfinite(passes))
        return [Cell(text if k else EMPTY) for text, k in zip(texts, known, strict=True)]

    def own(each: ArmFindings) -> list[Cell]:
        return (
            cells(each.spent.ratio, each.spent.backwards) if each.spent else cells(*[math.nan] * 2)
        )

    spent = [each.spent for each in found.single.values() if each.spent]
    whole = len(spent) == len(found.single)
    time = sum(each.ratio for each in spent) if whole else math.nan
    passes = sum(each.backwards for each in spent) if spent else math.nan
    return Group(
        ["time", "passes"], ["× ew", "a step"], cells(time, passes), [own(each) for each in arms]
    )


def _chosen(found: Findings, arms: Sequence[ArmFindings]) -> Group:
    """A column for every tuned value."""
    alone = list(found.single.values())
    tuned = {name: of for name, of in TUNED.items() if any(of(each) for each in [*alone, *arms])}
    rows = [[Cell(by_seeds(of(each)), "words") for of in tuned.values()] for each in arms]
    reference = [_all_of([by_seeds(of(each)) for each in alone]) for of in tuned.values()]
    return Group(list(tuned), ["chosen"] * len(tuned), reference, rows)


def _all_of(texts: Sequence[str]) -> Cell:
    """What the single-task networks chose, each for itself."""
    told = list(dict.fromkeys(texts))
    return Cell(" / ".join(told if len(told) < 4 else [told[0], "…", told[-1]]), "words")


def _top(values: Sequence[float]) -> int | None:
    return int(np.nanargmax(values)) if np.isfinite(values).any() else None


def comparisons(found: Findings) -> Table:
    """Paired differences in Delta_m to each baseline."""
    columns = ["method"]
    units = [""]
    for baseline in found.baselines:
        columns += [f"{MINUS} {baseline}", "p", "won", f"than {baseline}"]
        units += ["points [95 %]" if found.gate else "points [joint 95 %]", "Holm", "pairs", ""]
    rows = []
    ordered = [each for each in found.arms if each.against]
    ordered.sort(key=lambda each: last_if_missing(-each.delta.value))
    for each in ordered:
        row = [arm_name(each)]
        for baseline in found.baselines:
            gap = each.against.get(baseline)
            if gap is None:
                row += [Cell(EMPTY)] * 4
                continue
            said = outcome(each, baseline)
            row += [
                Cell(interval(gap) if gap.runs else EMPTY),
                Cell(p_value(gap.p_holm)),
                Cell(f"{gap.wins} of {gap.runs}"),
                Cell(SAID[said], said),
            ]
        rows.append(row)
    return Table(columns, rows, units)


def to_csv(found: Findings) -> str:
    """Long form: a row for every number of every trial, with all that identifies the trial."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(COLUMNS)
    for id_, stored in found.stored.items():
        trial = stored.trial
        head: list[Any] = [trial.problem_options, trial.method, trial.method_options]
        head += [trial.arguments, trial.task or "", trial.stage, trial.seed]
        head += [trial.learning_rate, trial.weight_decay, trial.epochs, stored.status]
        measured = [
            (epoch, split, task, metric, value)
            for split in ("train", "validation", "test")
            for epoch, row in found.found.curve(trial, split).items()
            for (task, metric), value in row.items()
        ]
        for row in measured:
            out.writerow([*head, *row, id_[:12]])
        if not measured:
            out.writerow([*head, "", "", "", "", "", id_[:12]])
    return text.getvalue()


def number(estimate: Estimate | None) -> str:
    """``90.5 ± 0.6``: mean and half of the interval, to two significant digits of the latter."""
    if estimate is None:
        return EMPTY
    half = (estimate.high - estimate.low) / 2
    if not math.isfinite(half) or half == 0:
        return f"{estimate.value:.4g}".replace("-", MINUS)
    digits = max(0, 1 - math.floor(math.log10(half)))
    return f"{estimate.value:.{digits}f} ± {half:.{digits}f}".replace("-", MINUS)


def arm_name(each: ArmFindings) -> Cell:
    """The label of an arm."""
    return Cell(each.arm.label, "control" if each.arm.control else "")


def arrow(measure: Measure) -> str:
    """Unit and direction of a metric."""
    return f"{measure.unit} {'↑' if measure.higher_is_better else '↓'}".strip()


def last_if_missing(value: float) -> float:
    """A key to sort by that puts what is missing last."""
    return value if math.isfinite(value) else math.inf
