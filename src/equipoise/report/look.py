"""How charts look: the page's colours by name, and what all charts share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from typing import Any

from altair.utils import schemapi

Spec = dict[str, Any]
Row = dict[str, Any]

# Names of the page's own colours: a script puts the values in, so that dark mode reaches the charts.
INK, SOFT, FAINT = "var(--ink)", "var(--soft)", "var(--line)"
PAPER, ACCENT = "var(--paper)", "var(--accent)"
BETTER, WORSE = "var(--better)", "var(--worse)"
TASKS = tuple(f"var(--task{number})" for number in range(1, 9))
# With more tasks than there are colours, lines give way to maps.
MANY = len(TASKS)

_TEXT = {
    "labelColor": SOFT,
    "titleColor": SOFT,
    "titleFontWeight": 400,
    "labelFontSize": 11,
    "titleFontSize": 11,
}
_LINES = {"gridColor": FAINT, "gridOpacity": 0.55, "domainColor": FAINT, "tickColor": FAINT}
LOOK: dict[str, Any] = {
    "font": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif",
    "view": {"stroke": None},
    "axis": {**_TEXT, **_LINES, "labelLimit": 190, "titlePadding": 6},
    "axisY": {"labelColor": INK},
    "legend": {**_TEXT, "titleLimit": 300, "labelLimit": 300},
}


def sized(chart: Any, height: int) -> Spec:
    """The chart as wide as its place on the page."""
    wide = chart.properties(width="container", height=height, background="transparent")
    return dict(wide.to_dict(validate=schemapi.DEBUG_MODE))


def short(name: str, most: int = 26, tail: int | None = None) -> str:
    """A name of at most so many letters: its beginning and its end, a third of them by default."""
    if len(name) <= most:
        return name
    end = most // 3 if tail is None else tail
    return f"{name[: most - end - 1]}…{name[len(name) - end :]}"


def shortened(names: Iterable[str], most: int = 26) -> str:
    """:func:`short` as an expression of Vega, for an axis with these names.

    The end gets as many letters as tell most of the names apart.
    """
    known = set(names)
    tails = (most // 3, 0, most // 2, 2 * most // 3)
    tail = max(tails, key=lambda end: len({short(name, most, end) for name in known}))
    end = f" + slice(datum.label, -{tail})" if tail else ""
    begin = f"slice(datum.label, 0, {most - tail - 1}) + '…'"
    return f"length(datum.label) > {most} ? {begin}{end} : datum.label"


@lru_cache(maxsize=1)
def light() -> dict[str, str]:
    """The values of the colours in the light page, by name."""
    css = files("equipoise.report").joinpath("page.css").read_text(encoding="utf-8")
    first = css[css.index(":root") : css.index("}")]
    return dict(re.findall(r"(--[a-z0-9]+): (#[0-9a-f]+)", first))


def painted(value: Any) -> Any:
    """A chart with the values of the light page in place of the names of its colours."""
    if isinstance(value, str) and value.startswith("var("):
        return light()[value[4:-1]]
    if isinstance(value, list | tuple):
        return [painted(each) for each in value]
    if isinstance(value, dict):
        return {key: painted(each) for key, each in value.items()}
    return value
