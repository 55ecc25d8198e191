"""The tables of the page "What a step costs", read off the numbers of the benchmark.

``docs/speed.json`` holds them; ``make bench`` writes it. Where it is missing, the page says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

NAMES = {"torch": "PyTorch", "equipoise": "Equipoise", "torchjd": "TorchJD", "libmtl": "LibMTL"}
SETTINGS = ("torchjd", "torchjd_1", "torchjd_gramian")
ENGINES = {
    "plain": "plain sum, against itself",
    "losses": "``balancer(losses)``",
    "parameters": "``balancer(losses)``",
    "backward": "``balancer.backward``",
    "shared": "``share``, ``balancer(losses)``",
    "shared_backward": "``share``, ``balancer.backward``",
    "features": "features",
    "torchjd": "TorchJD, its best setting",
    "libmtl": "LibMTL",
}

Rows = list[dict[str, Any]]


class Line(NamedTuple):
    """A row of a table: a method, None for the plain sum, and an engine."""

    method: str | None
    engine: str


def read(file: Path) -> dict[str, Any]:
    """What the benchmark wrote; empty where it has not run."""
    if not file.exists():
        return {}
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def lines_of(rows: Rows, methods: Iterable[str | None] = ()) -> list[Line]:
    """Methods and engines in the order they ran, TorchJD's settings as one; none given: all."""
    wanted = list(methods)
    found = {
        Line(row["method"], "torchjd" if row["engine"] in SETTINGS else row["engine"]): None
        for row in rows
        if not wanted or row["method"] in wanted
    }
    return list(found)


def the_row(rows: Rows, line: Line, workload: str, best: str) -> dict[str, Any] | None:
    """The numbers of a line on a workload; of TorchJD's settings, those with the least of ``best``."""
    found = [
        row
        for row in rows
        if row["method"] == line.method and row["workload"] == workload and "refused" not in row
        if row["engine"] in (SETTINGS if line.engine == "torchjd" else (line.engine,))
    ]
    return min(found, key=lambda row: row[best], default=None)


def ratio(row: Mapping[str, Any] | None) -> str:
    """The median, and the range in brackets."""
    if row is None:
        return "–"
    return f"{row['ratio']:.2f} ({row['low']:.1f}–{row['high']:.1f})"


def mib(row: Mapping[str, Any] | None) -> str:
    """The peak in MiB."""
    return "–" if row is None else f"{row['mib']:.2f}" if row["mib"] < 1 else f"{row['mib']:.1f}"


def table(rows: Rows, lines: list[Line], which: str) -> list[str]:
    """The lines of a list-table of ``time`` or ``memory``, a column for each workload."""
    best, cell = {"time": ("ratio", ratio), "memory": ("mib", mib)}[which]
    workloads = {row["workload"]: row["tasks"] for row in rows}
    text = [
        ".. list-table::",
        "   :header-rows: 1",
        "   :class: speed",
        "",
        "   * - method",
        "     - engine",
        *(f"     - {name}, K = {tasks}" for name, tasks in workloads.items()),
    ]
    before: str | None = ""
    for line in lines:
        name = f":ref:`{line.method} <method-{line.method}>`" if line.method else ""
        text.append(f"   * - {name if line.method != before else ''}")
        text.append(f"     - {ENGINES[line.engine]}")
        text += [f"     - {cell(the_row(rows, line, workload, best))}" for workload in workloads]
        before = line.method
    return [*text, ""]


def agreement(rows: Rows) -> list[str]:
    """How far each engine's gradients lie from ours at most, and what was not timed."""
    found: dict[Line, list[float]] = {}
    refused: dict[Line, str] = {}
    for row in rows:
        line = Line(row["method"], "torchjd" if row["engine"] in SETTINGS else row["engine"])
        if line.engine not in ("torchjd", "libmtl"):
            continue
        if "refused" in row:
            refused[line] = f"not timed: {row['refused']}"
        else:
            found.setdefault(line, []).append(row["difference"])
    if not found and not refused:
        return ["No other library was there to compare with.", ""]
    text = [
        ".. list-table::",
        "   :header-rows: 1",
        "",
        "   * - method",
        "     - TorchJD",
        "     - LibMTL",
    ]
    for method in dict.fromkeys(line.method for line in (*found, *refused)):
        text.append(f"   * - :ref:`{method} <method-{method}>`")
        for engine in ("torchjd", "libmtl"):
            line = Line(method, engine)
            off = f"{max(found[line]):.0e}" if line in found else ""
            # A message may hold what rst would read as markup.
            why = f"``{refused[line]}``" if line in refused else ""
            text.append(f"     - {'; '.join(filter(None, (off, why))) or '–'}")
    return [*text, ""]


def summary(run: Mapping[str, Any]) -> str:
    """Machine, versions, date and command."""
    versions = ", ".join(f"{NAMES[name]} {number}" for name, number in run["versions"].items())
    day = date.fromisoformat(run["date"])
    cores, threads = run["cores"], run["threads"]
    text = (
        f"{run['machine']}, {cores} core{'s'[: cores > 1]}, {threads} thread{'s'[: threads > 1]}; "
        f"{versions}; {day.day} {day:%B %Y}. Median of {run['rounds']} rounds, lowest and highest in "
        f"brackets: ``{run['command']}``."
    )
    return " ".join([text, *(f"{why}." for why in run["absent"].values())])


class SpeedTable(SphinxDirective):
    """``.. speed:: run``, ``time``, ``memory`` or ``agreement``, the middle two with methods if not all."""

    required_arguments = 1
    optional_arguments = 20

    def run(self) -> list[nodes.Node]:
        file = Path(self.env.srcdir) / "speed.json"
        self.env.note_dependency(str(file))
        which, *methods = self.arguments
        found = read(file)
        if not found:
            lines = ["The benchmark has not been run." if which == "run" else ""]
        elif which == "run":
            lines = [summary(found)]
        elif which == "agreement":
            lines = agreement(found["rows"])
        else:
            rows = found["rows"]
            some = [None, *methods] if methods else []
            lines = table(rows, lines_of(rows, some), which)
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("speed", SpeedTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
