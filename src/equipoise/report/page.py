"""Writes the report of a study: one HTML file that needs nothing else, Markdown and CSV beside it."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from equipoise.report import extras, figures, panels, tables
from equipoise.report.look import LOOK, MANY
from equipoise.report.table import Table
from equipoise.study import (
    ArmFindings,
    Findings,
    Store,
    Trial,
    advice,
    findings,
    headline,
    sentence,
    warnings,
)
from equipoise.study.questions import PROTOCOLS


def write(store: Store, out: Path | None = None) -> Path:
    """Writes ``NAME.html``, ``NAME.md`` and ``NAME.csv``.

    Args:
        store: a study, finished or not.
        out: the HTML file; None puts it beside the store.

    Returns:
        The path of the HTML file.

    Raises:
        ValueError: the store holds no study yet.
    """
    page = (out or store.path).with_suffix(".html")
    found = findings(store)
    command = f"equipoise run {page.stem}.toml --out {store.path.name}"
    facts = context(found, command)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(_templates().get_template("page.html").render(facts), encoding="utf-8")
    page.with_suffix(".md").write_text(
        _templates().get_template("page.md").render(facts), encoding="utf-8"
    )
    page.with_suffix(".csv").write_text(tables.to_csv(found), encoding="utf-8")
    return page


def context(found: Findings, command: str) -> dict[str, Any]:
    """Everything the templates show."""
    charts: dict[str, figures.Spec] = {}

    def chart(name: str, spec: figures.Spec | None) -> str | None:
        if spec is None:
            return None
        charts[name] = spec
        return name

    shown_tables = _tables(found)
    equal = found.arm("ew")
    shown = _highlighted(found)
    facts: dict[str, Any] = {
        "title": found.spec.title(),
        "found": found,
        "spec": found.spec,
        "protocol": PROTOCOLS[found.spec.protocol],
        "verdict": headline(found),
        "sentences": [
            sentence(each, baseline)
            for baseline in found.baselines
            for each in found.arms
            if baseline in each.against
        ],
        "advice": advice(found),
        "warnings": warnings(found),
        "tables": shown_tables,
        "many": MANY,
        "differences": chart("differences", figures.differences(found, "ew")),
        "deltas": chart("deltas", figures.deltas(found)),
        "weights": [
            (each.arm.label, id)
            for each, id in _panels(chart, "weights", found, panels.weights, found.arms)
        ],
        "rates": [
            (panels.rates_title(found, each), id)
            for each, id in _panels(chart, "rates", found, panels.rates, found.all_arms)
        ],
        "curves": [
            (
                f"{measure.task}: {measure.metric}",
                chart(f"curve{place}", panels.curves(found, measure, shown)),
            )
            for place, measure in enumerate(found.measures)
        ],
        "shown": list(zip(shown, panels.HIGHLIGHTS, strict=False)),
        "cost": chart("cost", figures.cost(found)),
        "cosines": chart("cosines", panels.cosines(found, equal)),
        "norms": chart("norms", panels.norms(found, equal)),
        "pairs": panels.pair_colors(found, equal),
        "tasks": panels.task_colors(found),
        "trouble": _trouble(found),
        "facts": _facts(found),
        "toml": found.spec.to_toml(),
        "command": command,
    }
    data = {
        "look": LOOK,
        "charts": charts,
        "tables": {name: table.copies() for name, table in shown_tables.items()},
    }
    facts["data"] = Markup(json.dumps(data).replace("<", "\\u003c"))
    facts["bundle"] = Markup(_bundle())
    return facts


def _tables(found: Findings) -> dict[str, Table]:
    """The tables by name; those of many tasks apart from the others."""
    named: dict[str, Table | None] = {"comparisons": tables.comparisons(found)}
    if len(found.measures) > MANY:
        named |= {"results": tables.overview(found), "per-task": tables.per_task(found)}
    else:
        named["results"] = tables.results(found)
    named |= {"joint": extras.joint(found), "at-best": extras.at_best(found)}
    return {name: table for name, table in named.items() if table is not None}


def _panels(
    chart: Any, kind: str, found: Findings, draw: Any, arms: list[ArmFindings]
) -> list[tuple[ArmFindings, str]]:
    """Titles and names of small charts, one an arm."""
    named = [(each, chart(f"{kind}-{place}", draw(found, each))) for place, each in enumerate(arms)]
    return [panel for panel in named if panel[1] is not None]


def _pretty(text: object) -> Markup:
    """Sets Delta_m as a symbol, and keeps a number and its interval on one line."""
    plain = str(escape(text)).replace("Delta_m", "Δ<sub>m</sub>")
    return Markup(_ESTIMATE.sub(lambda found: found[0].replace(" ", "\u00a0"), plain))


def _coded(text: object) -> Markup:
    """As :func:`_pretty`, with names between backticks set as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(_pretty(text))))


# A number and its interval: "+4.9 [2.8, 7.0]".
_ESTIMATE = re.compile(r"[+−]?\d[\d.]* \[[^\]]*\]")


def _highlighted(found: Findings) -> list[str]:
    """Curves to show in colour: equal weights, the best arm, single-task networks, random weights."""
    ranked = [each for each in found.arms if np.isfinite(each.delta.value)]
    ranked.sort(key=lambda each: -each.delta.value)
    best = [each.arm.label for each in ranked if each.arm.label not in found.baselines][:1]
    return ["ew", *best, "single-task", "rlw"]


def _trouble(found: Findings) -> list[tuple[str, str, str]]:
    """Trials that failed or diverged: what, how, the note."""
    return [
        (_described(stored.trial), stored.status, stored.note)
        for stored in found.stored.values()
        if stored.status != "done"
    ]


def _described(trial: Trial) -> str:
    who = f"single-task {trial.task}" if trial.task else trial.method
    return f"{who}, {trial.stage}, lr {trial.learning_rate:g}, seed {trial.seed}"


def _facts(found: Findings) -> dict[str, Any]:
    spent = [stored.cost for stored in found.stored.values() if stored.cost]
    finals = sum(stored.trial.stage == "final" for stored in found.stored.values())
    return {
        "trials": len(found.stored),
        "finals": finals,
        "tuning": len(found.stored) - finals,
        "cpu_seconds": sum(cost.seconds for cost in spent),
        "samples": sum(cost.samples for cost in spent),
        "candidates": max(len(each.choice.scores) for each in found.all_arms),
        "threads": sorted({stored.threads for stored in found.stored.values() if stored.threads}),
    }


@lru_cache(maxsize=1)
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    if "</script" in bundle:
        raise ValueError("the chart library contains a closing script tag and cannot be inlined")
    return str(bundle)


@lru_cache(maxsize=1)
def _templates() -> Environment:
    def page_is_html(name: str | None) -> bool:
        return name is not None and name.endswith(".html")

    templates = Environment(
        loader=PackageLoader("equipoise.report", "."),
        autoescape=page_is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["pretty"] = _pretty
    templates.filters["coded"] = _coded
    return templates
