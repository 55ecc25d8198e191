"""Writes the report of a study: one HTML file that needs nothing else, Markdown and CSV beside it."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from equipoise.report import analyses, extras, maps, panels, tables
from equipoise.report.charts import gather
from equipoise.report.chosen import chosen
from equipoise.report.fronts import key
from equipoise.report.look import LOOK, MANY, short
from equipoise.report.table import Table
from equipoise.study import (
    Findings,
    Store,
    Trial,
    advice,
    findings,
    headline,
    sentence,
    warnings,
)
from equipoise.study.analyses.front import KINDS
from equipoise.study.arms import how_fixed
from equipoise.study.fixed import FIXED
from equipoise.study.questions import PROTOCOLS
from equipoise.study.selection import study_of
from equipoise.study.shelf import kept


def write(store: Store, out: Path | None = None, gate: bool = False) -> Path:
    """Writes ``NAME.html``, ``NAME.md`` and ``NAME.csv``.

    Args:
        store: a study, finished or not.
        out: the HTML file; None puts it beside the store.
        gate: as for :func:`~equipoise.study.findings`.

    Returns:
        The path of the HTML file.

    Raises:
        ValueError: the store holds no study yet.
    """
    page = (out or store.path).with_suffix(".html")
    found = findings(store, gate=gate)
    command = f"equipoise run {page.stem}.toml --out {store.path.name}"
    facts = context(store, found, command)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(templates().get_template("page.html").render(facts), encoding="utf-8")
    page.with_suffix(".md").write_text(
        templates().get_template("page.md").render(facts), encoding="utf-8"
    )
    page.with_suffix(".csv").write_text(tables.to_csv(found), encoding="utf-8")
    return page


def context(store: Store, found: Findings, command: str) -> dict[str, Any]:
    """Everything the templates show."""
    seen = analyses.look(store, found)
    charts = gather(found, seen)
    shown_tables = {**_tables(found), **analyses.tables(found, seen)}
    equal = next((each for each in found.arms if each.arm.label == "ew"), None)
    labels = {each.arm.label for each in found.arms} | {"single-task"}
    data = {
        "look": LOOK,
        "charts": {chart.name: chart.spec for section in charts.values() for chart in section},
        "tables": {name: table.copies() for name, table in shown_tables.items()},
    }
    return {
        "title": found.title,
        "found": found,
        "spec": found.spec,
        "protocol": PROTOCOLS[found.spec.protocol],
        "verdict": headline(found, seen.fronts),
        "advice": advice(found),
        "sentences": [
            sentence(each, baseline)
            for baseline in found.baselines
            for each in found.arms
            if baseline in each.against
        ],
        "warnings": warnings(found),
        "tables": shown_tables,
        "sections": SECTIONS,
        "charts": charts,
        "shown": [
            (label, color)
            for label, color in zip(panels.highlighted(found), panels.HIGHLIGHTS, strict=False)
            if label in labels
        ],
        "shown_arms": [
            pair
            for pair in zip(panels.highlighted(found), panels.HIGHLIGHTS, strict=False)
            if pair[0] != "single-task"
        ],
        "pairs": panels.pair_colors(found, equal) if equal else {},
        "mapped": panels.mapped(found),
        "tasks": panels.task_colors(found),
        "many": MANY,
        "seen": seen,
        "how_fixed": how_fixed(found.spec),
        "full": maps.FULL,
        "fixed": FIXED,
        "trouble": _trouble(found),
        "facts": _facts(found),
        "toml": study_of(store).to_toml(),
        "command": command,
        "data": embedded(data),
        "bundle": bundle(),
    }


# Tables of the Markdown page after those of the comparison and the results, with their headings.
SECTIONS = (
    ("by-task", "Task by task"),
    ("per-task", "Every task"),
    ("joint", "Metrics of all tasks together"),
    ("at-best", "At the best epoch on validation"),
    ("robust", "All runs and tasks, by other yardsticks"),
    ("stability", "Does the order last?"),
    *((f"front {kind}", f"Beside the front of fixed weights: {kind}") for kind in KINDS),
    ("frozen", "Do the weights have to move?"),
    ("settings", "What the setting changes"),
    ("spreads", "Spread between methods at every setting"),
    ("variance", "What makes the difference: shares of the variance of Delta_m on test"),
    ("sparse", "What makes the difference: sparse learning rates"),
    ("minima", "The way to the minimum, and what lies around it"),
    ("curves", "Learning curves on validation"),
    ("weights", "Weights over time"),
    ("gradients", "Do the tasks conflict? Task gradients under equal weights"),
    ("rates", "Sensitivity to tuning: the best validation score at every learning rate"),
    ("chosen", "What tuning chose"),
)


def embedded(data: object) -> Markup:
    """As JSON that cannot end the script it stands in."""
    return Markup(json.dumps(data).replace("<", "\\u003c"))


def _tables(found: Findings) -> dict[str, Table]:
    """The tables by name; those of many tasks apart from the others."""
    named: dict[str, Table | None] = {"comparisons": tables.comparisons(found)}
    if len(found.measures) > MANY:
        named |= {"results": tables.overview(found), "per-task": tables.per_task(found)}
    else:
        named["results"] = tables.results(found)
    named |= {
        "chosen": chosen(found),
        "joint": extras.joint(found),
        "at-best": extras.at_best(found),
    }
    named["by-task"] = extras.differences_by_task(found)
    return {name: table for name, table in named.items() if table is not None}


def _pretty(text: object) -> Markup:
    """Sets Delta_m as a symbol, and keeps a number and its interval, or a p value, on one line."""
    plain = str(escape(text)).replace("Delta_m", "Δ<sub>m</sub>")
    return Markup(_ESTIMATE.sub(lambda found: found[0].replace(" ", "\u00a0"), plain))


def _wrapped(name: object) -> Markup:
    """A name that may break after its signs, where it is long."""
    if len(str(name)) <= 20:
        return _pretty(name)
    # A sign of its own, since what is set has signs too.
    broken = re.sub(r"(?<=[_/.:,-])(?=\w)", "\0", str(name).replace("Delta_m", "Δm"))
    return Markup(str(_pretty(broken)).replace("\0", "<wbr>").replace("Δm", "Δ<sub>m</sub>"))


def _coded(text: object) -> Markup:
    """As :func:`_pretty`, with names between backticks set as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(_pretty(text))))


# A number and its interval, or a p value: "+4.9 [2.8, 7.0]", "p = 0.02".
_ESTIMATE = re.compile(r"[+−]?\d[\d.]* \[[^\]]*\]|p (?:=|&lt;) \d[\d.]*")


def _trouble(found: Findings) -> list[tuple[str, str, str]]:
    """Trials that failed or diverged: what, how, the note."""
    return [
        (_described(stored.trial), stored.status, stored.note)
        for stored in found.stored.values()
        if stored.status not in ("done", "pruned")
    ]


def _described(trial: Trial) -> str:
    who = f"single-task {trial.task}" if trial.task else trial.method
    return f"{who}, {trial.stage}, lr {trial.learning_rate:g}, seed {trial.seed}"


def _facts(found: Findings) -> dict[str, Any]:
    spent = [stored.cost for stored in found.stored.values() if stored.cost]
    return {
        "trials": len(found.stored),
        "kinds": _kinds(found),
        "cpu_seconds": sum(cost.seconds for cost in spent),
        "samples": sum(cost.samples for cost in spent),
        "candidates": found.arm("ew").arm.space.size,
        "threads": sorted({stored.threads for stored in found.stored.values() if stored.threads}),
    }


def _kinds(found: Findings) -> str:
    """How many trials there are, of which kind, and how many others the file keeps."""
    finals = sum(stored.trial.stage == "final" for stored in found.stored.values())
    text = f"{len(found.stored) - finals} tuning, {finals} final"
    if found.spec.tuning == "per seed":
        text = f"{finals}, among which every seed chose its final ones"
    return f"{text} ({kept(found.others)})" if found.others else text


@lru_cache(maxsize=1)
def bundle() -> Markup:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    if "</script" in script:
        raise ValueError("the chart library contains a closing script tag and cannot be inlined")
    return Markup(script)


@lru_cache(maxsize=1)
def templates() -> Environment:
    """The templates of the pages."""

    def page_is_html(name: str | None) -> bool:
        return name is not None and name.endswith(".html")

    loaded = Environment(
        loader=PackageLoader("equipoise.report", "."),
        autoescape=page_is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    loaded.filters |= {"pretty": _pretty, "coded": _coded}
    loaded.filters |= {"wrapped": _wrapped, "short": short, "key": key}
    loaded.filters |= {"convergence_key": analyses.convergence_key}
    return loaded
