"""A table, and how it is written in Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from equipoise.study.verdict import MINUS

EMPTY = "–"


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and what it is (``best``, ``better``, ``worse``, ``control``)."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Parts:
    """A table as text: what comes before its rows, the rows, what comes after."""

    head: str
    rows: list[str]
    foot: str = ""

    def __str__(self) -> str:
        return "".join([self.head, *self.rows, self.foot])


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row, the others are numbers or short texts."""

    columns: list[str]
    rows: list[list[Cell]]
    units: list[str]

    def to_markdown(self) -> str:
        """As a Markdown table."""
        return str(_markdown(self))

    def to_latex(self) -> str:
        r"""As a ``tabular`` with the rules of booktabs (``\usepackage{booktabs}``)."""
        return str(_latex(self))

    def to_csv(self) -> str:
        """As CSV, numbers with a plain minus."""
        return str(_csv(self))

    def copies(self) -> dict[str, dict[str, str | list[str]]]:
        """Every form in parts, so that a page can copy the rows in the order they are shown."""
        return {name: vars(write(self)) for name, write in FORMS.items()}


def _markdown(table: Table) -> Parts:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(each.replace("|", r"\|") for each in cells) + " |\n"

    heads = [f"{c} ({u})" if u else c for c, u in zip(table.columns, table.units, strict=True)]
    rule = "|---" + "|---:" * (len(table.columns) - 1) + "|\n"
    rows = [[f"**{c.text}**" if c.kind == "best" else c.text for c in row] for row in table.rows]
    return Parts(line(heads) + rule, [line(row) for row in rows])


def _latex(table: Table) -> Parts:
    def line(cells: list[str]) -> str:
        return " & ".join(cells) + r" \\" + "\n"

    heads = line([latex(column) for column in table.columns])
    if any(table.units):
        heads += line([latex(unit) for unit in table.units])
    rows = [
        line(
            [
                rf"\textbf{{{latex(cell.text)}}}" if cell.kind == "best" else latex(cell.text)
                for cell in row
            ]
        )
        for row in table.rows
    ]
    begin = r"\begin{tabular}{l" + "r" * (len(table.columns) - 1) + "}\n\\toprule\n"
    return Parts(begin + heads + "\\midrule\n", rows, "\\bottomrule\n\\end{tabular}\n")


def latex(text: str) -> str:
    """Text as LaTeX: signs escaped, arrows and minus as mathematics."""
    return _SIGNS.sub(lambda found: SIGNS[found[0]], text)


SIGNS: Mapping[str, str] = {
    "Delta_m": r"$\Delta_m$",
    "\\": r"\textbackslash{}",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    MINUS: "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "°": r"$^\circ$",
    EMPTY: "--",
    "…": r"\dots{}",
}
_SIGNS = re.compile("|".join(map(re.escape, SIGNS)))


def _csv(table: Table) -> Parts:
    def line(cells: list[str]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(each.replace(MINUS, "-") for each in cells)
        return text.getvalue()

    heads = [f"{c} ({u})" if u else c for c, u in zip(table.columns, table.units, strict=True)]
    return Parts(line(heads), [line([cell.text for cell in row]) for row in table.rows])


FORMS: Mapping[str, Callable[[Table], Parts]] = {
    "LaTeX": _latex,
    "Markdown": _markdown,
    "CSV": _csv,
}
