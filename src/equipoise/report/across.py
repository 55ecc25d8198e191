"""One report across problems: ranks of the arms that all studies share, and the verdict of each problem."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from equipoise.report.diagram import diagram
from equipoise.report.look import LOOK, light
from equipoise.report.page import embedded, templates, title_of, write
from equipoise.report.pictures import FONT, save
from equipoise.report.table import EMPTY, Cell, Table
from equipoise.study import Findings, Sentence, Store, findings, headline
from equipoise.study.statistics import Friedman, friedman
from equipoise.study.trial import SINGLE_TASK
from equipoise.study.verdict import interval

# Widths of the diagram in pixels, for a screen and for a phone.
WIDE, NARROW = 760, 350


@dataclass(frozen=True)
class Problem:
    """A study of a problem.

    Attributes:
        name: as the report calls it, unlike that of the others.
        path: its store.
        found: its numbers.
    """

    name: str
    path: Path
    found: Findings

    @property
    def seeds(self) -> int:
        """Runs behind each of its scores."""
        return len(self.found.spec.seeds)

    @property
    def line(self) -> Sentence:
        """Its verdict in one sentence."""
        return headline(self.found)[0]


@dataclass(frozen=True)
class Across:
    """Arms over problems.

    Attributes:
        problems: P of them.
        labels: of the A arms that all problems share and that finished in all of them.
        left_out: shared arms that have no Delta_m in some problem, with the names of those problems.
        deltas: Delta_m, ``[A, P]``.
        test: ranks over problems; None where fewer than three arms are shared.
    """

    problems: list[Problem]
    labels: list[str]
    left_out: dict[str, list[str]]
    deltas: np.ndarray[Any, np.dtype[np.float64]]
    test: Friedman | None


def across(problems: Sequence[Problem]) -> Across:
    """Ranks the shared arms by their Delta_m in each problem.

    The unit is the problem: Delta_m is the mean over its seeds, and more seeds are no more problems.

    Raises:
        ValueError: fewer than two problems, or they share no arms.
    """
    if len(problems) < 2:
        raise ValueError("a report across problems needs the files of two studies at least")
    known = [[each.arm.label for each in problem.found.arms] for problem in problems]
    shared = [label for label in known[0] if all(label in labels for labels in known[1:])]
    if not shared:
        told = "; ".join(
            f"{problem.path} has {', '.join(labels)}"
            for problem, labels in zip(problems, known, strict=True)
        )
        raise ValueError(f"the studies share no arms, so nothing can be ranked over them: {told}")
    deltas = np.array([[p.found.arm(label).delta.value for p in problems] for label in shared])
    whole = np.isfinite(deltas).all(1)
    left_out = {
        label: [p.name for p, value in zip(problems, row, strict=True) if not math.isfinite(value)]
        for label, row, there in zip(shared, deltas, whole, strict=True)
        if not there
    }
    labels = [label for label, there in zip(shared, whole, strict=True) if there]
    deltas = deltas[whole]
    test = None
    if len(labels) >= 3:
        # The test sees one score a problem: its mean over seeds, whose number may differ.
        test = friedman(deltas[..., None], len(problems), 1)
    return Across(list(problems), labels, left_out, deltas, test)


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
    """Writes the critical-difference diagram as PNG, SVG and PDF; nothing without one."""
    drawn = _diagram(across(load(stores)), WIDE)
    if drawn is None:
        return []
    plain = re.sub(r"var\((--[a-z0-9]+)\)", lambda name: light()[name[1]], drawn)
    paper = '<rect width="100%" height="100%" fill="white"/>'
    framed = plain.replace(">", f' font-family="{FONT}">{paper}', 1)
    return list(save("critical-difference", framed, folder))


def load(stores: Sequence[Path]) -> list[Problem]:
    """The studies with names that differ."""
    found = []
    for path in stores:
        with Store(path, read_only=True) as store:
            found.append((path, findings(store)))
    titles = Counter(title_of(each) for _, each in found)
    named, taken = [], Counter[str]()
    for path, each in found:
        title = title_of(each)
        name = title if titles[title] == 1 else f"{title} ({path.stem})"
        taken[name] += 1
        if taken[name] > 1:
            name = f"{name} {taken[name]}"
        named.append(Problem(name, path, each))
    return named


def context(found: Across, links: dict[str, str]) -> dict[str, Any]:
    """Everything the templates show."""
    tables = {"across": table(found)}
    data = {"look": LOOK, "charts": {}, "tables": {name: t.copies() for name, t in tables.items()}}
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
        "data": embedded(data),
    }


def verdict(found: Across) -> str:
    """What the test says, in a sentence or two."""
    count = f"{len(found.labels)} arms over {len(found.problems)} problems"
    if found.test is None:
        return f"Only {count} are shared: ranks need three arms."
    p = "p < 0.001" if found.test.p < 0.001 else f"p = {found.test.p:.3f}"
    if not found.test.p <= 0.05:
        return f"No difference in rank was shown between {count} (Friedman, {p})."
    ranks = dict(zip(found.labels, map(float, found.test.ranks), strict=True))
    best = min(ranks, key=lambda label: ranks[label])
    behind = [label for label in ranks if ranks[label] - ranks[best] > found.test.critical]
    text = f"Ranks differ between {count} (Friedman, {p}): {best} has the best mean rank, {ranks[best]:.1f}"
    if not behind:
        return f"{text}, but no arm is shown to be behind it (critical difference {found.test.critical:.1f})."
    return f"{text}, and is shown to be ahead of {', '.join(behind)}."


def careful(found: Across) -> list[str]:
    """What to know before believing it."""
    said = []
    count = len(found.problems)
    if count < 5:
        said.append(
            f"{count} problems: the unit of the test is the problem, so that {count} show large differences "
            f"only, however many seeds each has."
        )
    same = Counter(
        (p.found.spec.problem, str(p.found.spec.problem_options)) for p in found.problems
    )
    for (name, _), times in same.items():
        if times > 1:
            said.append(
                f"{times} studies are of the same problem, {name}: they are counted as if they were not."
            )
    other = [p.name for p in found.problems if p.found.reference != SINGLE_TASK]
    if other:
        said.append(
            f"Delta_m is taken against equal weights, not single-task networks, in {', '.join(other)}."
        )
    for label, names in found.left_out.items():
        said.append(f"{label} has no Delta_m in {', '.join(names)} and is not ranked.")
    return said


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


def _diagram(found: Across, width: int) -> Markup | None:
    if found.test is None:
        return None
    return diagram(found.labels, list(map(float, found.test.ranks)), found.test.critical, width)


def _file(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:60] or "study"
