"""What the charts show, as tables: for readers of Markdown, and for those who cannot see a chart."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from equipoise.report.fronts import said
from equipoise.report.table import EMPTY, Cell, Table
from equipoise.report.tables import arm_name
from equipoise.study import ArmFindings, Findings
from equipoise.study.analyses import Size, Sparse
from equipoise.study.selection import Measure
from equipoise.study.verdict import MINUS, interval, signed
from equipoise.study.words import p_value

# Of more learning rates than this the best of each is no table.
RATES = 12
KINDS = {"better": "better", "worse": "worse", "not shown": "undecided"}


def frozen(found: Findings) -> Table | None:
    """Dynamic weights minus their means as fixed weights."""
    if not found.thawed:
        return None
    rows = []
    for label, gap in found.thawed.items():
        outcome = said(found, label, gap)
        difference = interval(gap) if math.isfinite(gap.value) else EMPTY
        moving = Cell(outcome, KINDS[outcome])
        rows.append([Cell(label), Cell(difference), Cell(p_value(gap.p_holm)), moving])
    units = ["", "Delta_m, points [joint 95 %]", "Holm", ""]
    return Table(["method", f"{MINUS} its mean weights", "p", "moving weights"], rows, units)


def settings(told: Sequence[Size]) -> Table | None:
    """Delta_m of every arm at every setting of a sweep."""
    if not told:
        return None
    rows = [
        [Cell(label), *(Cell(interval(each.deltas[label])) for each in told)]
        for label in told[0].deltas
    ]
    return Table(["method", *(each.setting for each in told)], rows, ["", *["% ↑"] * len(told)])


def variance(shares: Mapping[tuple[str, ...], float]) -> Table | None:
    """Shares of the variance by factor, the largest first."""
    if not shares:
        return None
    rows = [
        [Cell(" × ".join(factors)), Cell(f"{100 * share:.1f}")]
        for factors, share in sorted(shares.items(), key=lambda pair: -pair[1])
    ]
    return Table(["due to", "share of the variance"], rows, ["", "%"])


def sparse(told: Sequence[Sparse]) -> Table | None:
    """Spread over sparse grids of learning rates beside the spread over seeds."""
    if not told:
        return None
    rows = [
        [Cell(each.label), *(Cell(f"{x:.2f}") for x in (each.between_grids, each.between_seeds))]
        for each in sorted(told, key=lambda one: -one.between_grids)
    ]
    return Table(["method", "between grids", "between seeds"], rows, ["", *["sd, points"] * 2])


def curves(found: Findings) -> Table | None:
    """Every metric on validation half-way and at the end, mean over seeds."""
    rows = []
    for each in [*found.single.values(), *found.arms]:
        runs = [found.found.curve(trial, "validation") for trial in each.runs]
        wanted = [m for m in found.measures if each.arm.task in (None, m.task)]
        cells = {m: Cell(_way(m, runs)) for m in wanted}
        rows.append([arm_name(each), *(cells.get(m, Cell("")) for m in found.measures)])
    if not any(cell.text not in ("", EMPTY) for row in rows for cell in row[1:]):
        return None
    columns = ["method", *(f"{m.task} {m.metric}" for m in found.measures)]
    return Table(columns, rows, ["", *["half-way → end"] * len(found.measures)])


def _way(measure: Measure, runs: Sequence[Mapping[int, Mapping[tuple[str, str], float]]]) -> str:
    key = (measure.task, measure.metric)
    ends = [(run[_half(run)].get(key), run[max(run)].get(key)) for run in runs if run]
    known = [[one, other] for one, other in ends if one is not None and other is not None]
    if not known:
        return EMPTY
    return " → ".join(f"{each:.4g}".replace("-", MINUS) for each in np.mean(known, axis=0))


def _half(epochs: Mapping[int, object]) -> int:
    return min(epochs, key=lambda epoch: abs(epoch - max(epochs) / 2))


def weights(found: Findings) -> Table | None:
    """Share of each task in the weights in the first and in the last epoch, mean over seeds."""
    tasks = list(found.single)
    seen: dict[str, dict[int, dict[str, list[float]]]] = defaultdict(dict)
    for trial, epoch, task, mean, _ in found.weights:
        seen[trial].setdefault(epoch, {}).setdefault(task, []).append(mean)
    rows = []
    for each in found.arms:
        runs = [seen[trial.id] for trial in each.runs if trial.id in seen]
        ends = [(_shares(run[min(run)], tasks), _shares(run[max(run)], tasks)) for run in runs]
        if ends:
            first, last = np.mean(np.array(ends), axis=0)
            pairs = zip(first, last, strict=True)
            rows.append([arm_name(each), *(Cell(f"{a:.2f} → {b:.2f}") for a, b in pairs)])
    if not rows:
        return None
    return Table(["method", *tasks], rows, ["", *["share, first → last epoch"] * len(tasks)])


def _shares(epoch: Mapping[str, Sequence[float]], tasks: Sequence[str]) -> list[float]:
    means = [float(np.mean(epoch.get(task, [0.0]))) for task in tasks]
    total = sum(means)
    return [mean / total if total else float("nan") for mean in means]


def gradients(found: Findings, label: str = "ew") -> Table | None:
    """Norms of task gradients, and cosines of pairs of them, in the first and the last epoch."""
    ids = {run.id for run in found.arm(label).runs}
    seen: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(dict)
    for trial, epoch, task, other, value in found.gradients:
        if trial in ids and math.isfinite(value):
            seen[task, other].setdefault(epoch, []).append(value)
    if not seen:
        return None
    rows = []
    for (task, other), epochs in sorted(seen.items(), key=lambda pair: pair[0][0] != pair[0][1]):
        ends = [float(np.mean(epochs[end(epochs)])) for end in (min, max)]
        if task == other:
            rows.append([Cell(task), Cell("norm"), *(Cell(f"{x:.3g}") for x in ends)])
        else:
            rows.append([Cell(f"{task} · {other}"), Cell("cosine"), *(_cosine(x) for x in ends)])
    return Table(["task gradients", "what", "first epoch", "last epoch"], rows, [""] * 4)


def _cosine(value: float) -> Cell:
    return Cell(signed(value, 2))


def rates(found: Findings) -> Table | None:
    """The best validation score of every arm at every learning rate."""
    tried = {one.learning_rate for each in found.all_arms for one in each.choice.scores}
    if not 1 < len(tried) <= RATES:
        return None
    columns = sorted(tried)
    rows = [
        [Cell(each.arm.label), *(Cell(_best_at(found, each, rate)) for rate in columns)]
        for each in found.all_arms
    ]
    return Table(["method", *(f"{rate:g}" for rate in columns)], rows, [""] * (len(columns) + 1))


def _best_at(found: Findings, each: ArmFindings, rate: float) -> str:
    scores = [
        score
        for one, score in each.choice.scores.items()
        if one.learning_rate == rate and math.isfinite(score)
    ]
    if not scores:
        return EMPTY
    if each.arm.task is None:
        return signed(max(scores))
    first = next(m for m in found.measures if m.task == each.arm.task)
    sign = 1 if first.higher_is_better else -1
    return f"{sign * max(scores):.4g}".replace("-", MINUS)
