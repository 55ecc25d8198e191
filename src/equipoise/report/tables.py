"""The tables of a report: rows of text, and how they are written in Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.study import ArmFindings, Findings
from equipoise.study.selection import Measure
from equipoise.study.statistics import Estimate
from equipoise.study.verdict import MINUS, interval, outcome

EMPTY = "–"
COLUMNS = (
    *("method", "options", "single_task", "stage", "seed", "learning_rate", "status"),
    *("epoch", "split", "task", "metric", "value", "trial"),
)
SAID = {
    "better": "better",
    "worse": "worse",
    "undecided": "not shown",
    "untested": "not tested",
}


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and what it is (``best``, ``better``, ``worse``, ``control``)."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row, the others are numbers or short texts."""

    columns: list[str]
    rows: list[list[Cell]]
    units: list[str]

    def to_markdown(self) -> str:
        """As a Markdown table."""
        heads = [f"{c} ({u})" if u else c for c, u in zip(self.columns, self.units, strict=True)]
        lines = ["| " + " | ".join(heads) + " |"]
        lines.append("|---" + "|---:" * (len(self.columns) - 1) + "|")
        for row in self.rows:
            cells = [f"**{cell.text}**" if cell.kind == "best" else cell.text for cell in row]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"


def results(found: Findings) -> Table:
    """One row a method, best Delta_m first: Delta_m, every metric, rank, cost, chosen setting."""
    ordered = sorted(found.arms, key=lambda each: _last_if_missing(-each.delta.value))
    columns = ["method", "Delta_m", *[f"{m.task} {m.metric}" for m in found.measures]]
    columns += ["rank", "time", "passes", "learning rate"]
    arrows = ["↑ %" if m.higher_is_better and m.unit == "%" else _arrow(m) for m in found.measures]
    units = ["", "% ↑", *arrows, "mean ↓", "× ew", "a step", "chosen"]
    best = _best(found, ordered)
    rows = [[_name(each), *_numbers(each, best)] for each in ordered]
    return Table(columns, [_reference(found), *rows], units)


def _reference(found: Findings) -> list[Cell]:
    cells = [Cell("single-task", "control"), Cell("reference")]
    for place, measure in enumerate(found.measures):
        cells.append(Cell(number(found.single[measure.task].metrics[place])))
    spent = [each.spent for each in found.single.values() if each.spent]
    time = sum(each.ratio for each in spent) if len(spent) == len(found.single) else math.nan
    passes = sum(each.backwards for each in spent)
    rates = ", ".join(dict.fromkeys(_setting(each) for each in found.single.values()))
    together = Cell(f"{time:.2f}" if math.isfinite(time) else EMPTY)
    return [*cells, Cell(EMPTY), together, Cell(f"{passes:.3g}" if spent else EMPTY), Cell(rates)]


def _numbers(each: ArmFindings, best: Sequence[ArmFindings | None]) -> list[Cell]:
    delta = interval(each.delta) if math.isfinite(each.delta.value) else EMPTY
    cells = [Cell(delta, "best" if best[0] is each else "")]
    for place, estimate in enumerate(each.metrics):
        cells.append(Cell(number(estimate), "best" if best[place + 1] is each else ""))
    cells.append(Cell(f"{each.rank:.1f}" if math.isfinite(each.rank) else EMPTY))
    spent = each.spent
    ratio = f"{spent.ratio:.2f}" if spent and math.isfinite(spent.ratio) else EMPTY
    return [
        *cells,
        Cell(ratio),
        Cell(f"{spent.backwards:.3g}" if spent else EMPTY),
        Cell(_setting(each)),
    ]


def _best(found: Findings, arms: Sequence[ArmFindings]) -> list[ArmFindings | None]:
    """The arm with the best Delta_m, then the one with the best mean of each column."""

    def top(values: list[float]) -> ArmFindings | None:
        if not np.isfinite(values).any():
            return None
        return arms[int(np.nanargmax(values))]

    tops = [top([each.delta.value for each in arms])]
    for place, measure in enumerate(found.measures):
        sign = 1.0 if measure.higher_is_better else -1.0
        means = [each.metrics[place] for each in arms]
        tops.append(top([sign * mean.value if mean else math.nan for mean in means]))
    return tops


def comparisons(found: Findings) -> Table:
    """Paired differences in Delta_m to each baseline."""
    columns = ["method"]
    units = [""]
    for baseline in found.baselines:
        columns += [f"{MINUS} {baseline}", "p", "won", f"than {baseline}"]
        units += ["points [joint 95 %]", "Holm", "pairs", ""]
    rows = []
    ordered = [each for each in found.arms if each.against]
    ordered.sort(key=lambda each: _last_if_missing(-each.delta.value))
    for each in ordered:
        row = [_name(each)]
        for baseline in found.baselines:
            gap = each.against.get(baseline)
            if gap is None:
                row += [Cell(EMPTY)] * 4
                continue
            said = outcome(each, baseline)
            p = "< 0.001" if gap.p_holm < 0.001 else f"{gap.p_holm:.3f}"
            row += [
                Cell(interval(gap) if gap.runs else EMPTY),
                Cell(p if math.isfinite(gap.p_holm) else EMPTY),
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
        head = [trial.method, trial.method_options, trial.task or "", trial.stage, trial.seed]
        head += [trial.learning_rate, stored.status]
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


def _name(each: ArmFindings) -> Cell:
    return Cell(each.arm.label, "control" if each.arm.control else "")


def _setting(each: ArmFindings) -> str:
    chosen = each.choice.candidate
    if chosen is None:
        return EMPTY
    return ", ".join(filter(None, [f"{chosen.learning_rate:g}", chosen.told(*each.arm.search)]))


def _arrow(measure: Measure) -> str:
    arrow = "↑" if measure.higher_is_better else "↓"
    return f"{measure.unit} {arrow}".strip()


def _last_if_missing(value: float) -> float:
    return value if math.isfinite(value) else math.inf
