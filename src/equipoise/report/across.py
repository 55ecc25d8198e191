"""One report across problems: ranks of the arms that all studies share, and the verdict of each problem."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from equipoise.report.charts import Chart
from equipoise.report.diagram import diagram
from equipoise.report.look import LOOK, light
from equipoise.report.page import bundle, embedded, templates, write
from equipoise.report.panels import HIGHLIGHTS
from equipoise.report.pictures import FONT, save, to_svg
from equipoise.report.robust import profile_chart, robust_table, stability_table
from equipoise.report.table import EMPTY, Cell, Table
from equipoise.study import Store
from equipoise.study.across import Across, across, careful, load, verdict
from equipoise.study.fixed import FIXED
from equipoise.study.verdict import interval

# Widths of the diagram in pixels, for a screen and for a phone.
WIDE, NARROW = 760, 350


def write_across(stores: Sequence[Path], out: Path) -> Path:
    """Writes the report across problems, and that of every problem beside it.

    Args:
        stores: the files of the studies, two at least.
        out: the HTML file; a Markdown file goes beside it.

    Returns:
        The path of the HTML file.

    Raises:
        ValueError: the studies share no arms, or a file holds no study.
    """
    page = out.with_suffix(".html")
    found = across(load(stores))
    page.parent.mkdir(parents=True, exist_ok=True)
    links = {}
    for problem in found.problems:
        own = page.with_name(f"{page.stem}-{_file(problem.name)}.html")
        with Store(problem.path, read_only=True) as store:
            links[problem.name] = write(store, own).name
    facts = context(found, links)
    for ending in ("html", "md"):
        text = templates().get_template(f"across.{ending}").render(facts)
        page.with_suffix(f".{ending}").write_text(text, encoding="utf-8")
    return page


def pictures_across(stores: Sequence[Path], folder: Path) -> list[Path]:
    """Writes the performance profile and the critical-difference diagram as PNG, SVG and PDF."""
    found = across(load(stores))
    profile = _profile(found)
    made = [] if profile is None else list(save(profile.name, to_svg(profile), folder))
    drawn = _diagram(found, WIDE)
    if drawn is None:
        return made
    plain = re.sub(r"var\((--[a-z0-9]+)\)", lambda name: light()[name[1]], drawn)
    paper = '<rect width="100%" height="100%" fill="white"/>'
    framed = plain.replace(">", f' font-family="{FONT}">{paper}', 1)
    return [*made, *save("critical-difference", framed, folder)]


def context(found: Across, links: dict[str, str]) -> dict[str, Any]:
    """Everything the templates show."""
    named = {
        "across": table(found),
        "robust": robust_table(found.robust, found.baseline),
        "stability": stability_table(found.stability),
    }
    tables = {name: each for name, each in named.items() if each is not None}
    profile = _profile(found)
    data = {
        "look": LOOK,
        "charts": {} if profile is None else {profile.name: profile.spec},
        "tables": {name: each.copies() for name, each in tables.items()},
    }
    seeds = sorted({problem.seeds for problem in found.problems})
    return {
        "found": found,
        "links": links,
        "tables": tables,
        "verdict": verdict(found),
        "careful": careful(found),
        "seeds": " or ".join(map(str, seeds)),
        "wide": _diagram(found, WIDE),
        "narrow": _diagram(found, NARROW),
        "profile": profile,
        "shown": list(zip(_shown(found), HIGHLIGHTS, strict=False)),
        "bundle": bundle(),
        "data": embedded(data),
    }


def table(found: Across) -> Table:
    """Delta_m of every shared arm in every problem, best mean rank first."""
    ranks = np.full(len(found.labels), np.nan) if found.test is None else found.test.ranks
    shown = [*found.labels, *found.left_out]
    order = sorted(range(len(found.labels)), key=lambda place: ranks[place])
    order += range(len(found.labels), len(shown))
    best = found.deltas.argmax(0) if len(found.deltas) else np.full(len(found.problems), -1)
    rows = []
    for place in order:
        arms = [problem.found.arm(shown[place]) for problem in found.problems]
        rank = (
            f"{ranks[place]:.2f}" if place < len(ranks) and math.isfinite(ranks[place]) else EMPTY
        )
        cells = [
            Cell(
                interval(arm.delta) if math.isfinite(arm.delta.value) else EMPTY,
                "best" if best[number] == place else "",
            )
            for number, arm in enumerate(arms)
        ]
        name = Cell(shown[place], "control" if all(arm.arm.control for arm in arms) else "")
        rows.append([name, Cell(rank), *cells])
    units = ["", "mean ↓", *(f"% ↑, {problem.seeds} seeds" for problem in found.problems)]
    return Table(["method", "rank", *(problem.name for problem in found.problems)], rows, units)


def _profile(found: Across) -> Chart | None:
    spec = profile_chart(found.runs, _shown(found), "Δm of a run, %")
    if spec is None:
        return None
    return Chart("performance-profile", "Performance profile", "", spec, wide=True)


def _shown(found: Across) -> list[str]:
    """Arms in colour: equal weights, the best of the others, tuned fixed weights."""
    means = dict(zip(found.labels, found.deltas.mean(1), strict=True))
    others = [label for label in means if label not in ("ew", FIXED)]
    best = [max(others, key=lambda label: means[label])] if others else []
    return [label for label in ("ew", *best, FIXED) if label in means]


def _diagram(found: Across, width: int) -> Markup | None:
    if found.test is None:
        return None
    return diagram(found.labels, list(map(float, found.test.ranks)), found.test.critical, width)


def _file(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:60] or "study"
