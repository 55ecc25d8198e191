"""A page of one training run, from its JSONL log: weights, losses, gradients and conflicts over the steps."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import vl_convert

from equipoise.report.look import ACCENT, INK, LOOK, MANY, TASKS, Row, Spec, painted

# Points of a line; of more, means are drawn.
POINTS = 400
WIDTH, HEIGHT = 560, 130
FONT = "Arial, Liberation Sans, sans-serif"
DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2])

Points = dict[int, float]


class Panel(NamedTuple):
    """What one chart shows.

    Attributes:
        title: above it.
        log: whether its axis may be logarithmic, which takes positive values.
    """

    title: str
    log: bool = False


PANELS: Mapping[str, Panel] = {
    "weight": Panel("Weights applied"),
    "loss": Panel("Losses, unweighted", log=True),
    "grad_norm": Panel("Norms of task gradients at the shared parameters", log=True),
    "conflict": Panel("Cosines between task gradients, and the share of pairs that point apart"),
}
CONFLICTS = {
    "cos_mean": ("mean cosine", INK),
    "cos_min": ("least cosine", ACCENT),
    "conflict_rate": ("share of pairs apart", TASKS[1]),
}
_BY_TASK = re.compile(r"(?:^|/)(weight|loss|grad_norm)/(.+)$")


def plot(log: Path, out: Path | None = None) -> Path:
    """Draws a log that :class:`equipoise.adapters.loggers.JSONL` wrote.

    Args:
        log: the file.
        out: an ``.html`` or ``.svg`` file; None: HTML beside the log.

    Returns:
        The path of the picture.

    Raises:
        ValueError: the log cannot be read or has nothing of a balancer, or the ending is another.
    """
    target = log.with_suffix(".html") if out is None else out
    if target.suffix not in (".html", ".svg"):
        raise ValueError(f"{target} ends in neither .html nor .svg")
    series = read(log)
    if not series:
        raise ValueError(
            f"{log} has no metrics of a balancer, such as 'balance/weight/TASK': log(balancer.metrics(), "
            "step) writes them"
        )
    drawn = vl_convert.vegalite_to_svg(painted(spec(series)))
    text = str(drawn) if target.suffix == ".svg" else _page(log.name, str(drawn), series)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target


def read(log: Path) -> dict[str, dict[str, Points]]:
    """The lines of each panel by label; of a step that was logged twice, the later one.

    Raises:
        ValueError: a line is no JSON object with a step.
    """
    # The balancer and a monitor may both have told of a thing; the one with more to say is drawn.
    found: dict[str, dict[str, dict[str, Points]]] = defaultdict(lambda: defaultdict(dict))
    for row in _rows(log):
        for name, value in row.items():
            known = _known(name)
            if known is None or not isinstance(value, int | float):
                continue
            panel, label, source = known
            points = found[panel][label].setdefault(source, {})
            points[int(row["step"])] = float(value)
    series = {
        panel: {label: max(sources.values(), key=len) for label, sources in found[panel].items()}
        for panel in PANELS
        if panel in found
    }
    conflict = series.get("conflict", {})
    if conflict.get("mean cosine") == conflict.get("least cosine") and "mean cosine" in conflict:
        series["conflict"] = {"mean cosine": conflict["mean cosine"]}  # two tasks have one
    return series


def _rows(log: Path) -> Iterator[dict[str, Any]]:
    lines = log.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            if number == len(lines):
                return  # a run that was stopped while it wrote
            raise ValueError(f"{log}, line {number}: this is not JSON") from None
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise ValueError(f'{log}, line {number}: expected an object with a "step", a number')
        yield row


def _known(name: str) -> tuple[str, str, str] | None:
    """Panel, label and source of a metric."""
    last = name.rpartition("/")[2]
    if last in CONFLICTS:
        return "conflict", CONFLICTS[last][0], name[: -len(last)]
    by_task = _BY_TASK.search(name)
    return by_task and (by_task[1], by_task[2], name[: by_task.start()])


def spec(series: Mapping[str, Mapping[str, Points]]) -> Spec:
    """The panels, one under the other, as Vega-Lite."""
    tasks = [*dict.fromkeys(t for p, lines in series.items() if p != "conflict" for t in lines)]
    charts = [_chart(panel, lines, tasks) for panel, lines in series.items()]
    whole = alt.vconcat(*charts).resolve_scale(color="independent", strokeDash="independent")
    made: Spec = whole.to_dict()
    return {**made, "config": {**LOOK, "font": FONT}, "background": "white", "padding": 8}


def _chart(name: str, lines: Mapping[str, Points], tasks: list[str]) -> alt.Chart:
    panel = PANELS[name]
    rows = [row for label, points in lines.items() for row in _thinned(label, points)]
    least = min((row["value"] for row in rows), default=0)
    scale = alt.Scale(type="log" if panel.log and least > 0 else "linear", zero=name == "weight")
    if name == "conflict":
        looks = {label: (color, 0) for label, color in CONFLICTS.values() if label in lines}
    else:
        looks = {t: (TASKS[i % MANY], i // MANY) for i, t in enumerate(tasks) if t in lines}
    domain = list(looks)
    dashes = [DASHES[dash % len(DASHES)] for _, dash in looks.values()]
    legend = alt.Legend(title=None, symbolLimit=0, symbolStrokeWidth=2)
    chart: alt.Chart = (
        alt.Chart(alt.InlineData(values=rows), title=alt.Title(panel.title, anchor="start"))
        .mark_line(strokeWidth=1.6)
        .encode(
            x=alt.X("step:Q", title="step", scale=alt.Scale(zero=False, nice=False)),
            y=alt.Y("value:Q", title=None, scale=scale, axis=alt.Axis(tickCount=4, format="~g")),
            color=alt.Color(
                "label:N",
                scale=alt.Scale(domain=domain, range=[color for color, _ in looks.values()]),
                legend=legend,
            ),
            strokeDash=alt.StrokeDash(
                "label:N", scale=alt.Scale(domain=domain, range=dashes), legend=legend
            ),
        )
        .properties(width=WIDTH, height=HEIGHT)
    )
    return chart


def _thinned(label: str, points: Points) -> Iterable[Row]:
    steps = sorted(points)
    together = -(-len(steps) // POINTS)
    for at in range(0, len(steps), together):
        some = steps[at : at + together]
        mean = sum(points[step] for step in some) / len(some)
        yield {"label": label, "step": some[-1], "value": mean}


def _page(name: str, drawn: str, series: Mapping[str, Mapping[str, Points]]) -> str:
    longest = max(len(points) for lines in series.values() for points in lines.values())
    note = f"{longest:,} steps were logged."
    if longest > POINTS:
        note += f" Each point is the mean of up to {-(-longest // POINTS)} of them."
    if "conflict" in series:
        note += " A cosine is no verdict: tasks that point apart may still do better together."
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(name)}</title>\n<link rel="icon" href="data:,">\n'
        "<style>body { font-family: system-ui, sans-serif; margin: 2em auto; max-width: 52em; } "
        "svg { max-width: 100%; height: auto; }</style>\n</head>\n<body>\n"
        f"<h1>{escape(name)}</h1>\n<p>{note}</p>\n{drawn}\n</body>\n</html>\n"
    )
