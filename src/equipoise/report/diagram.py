"""The critical-difference diagram: mean ranks on a line, and bars over those not shown to differ."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from equipoise.report.look import short

# Heights in pixels: of the line of ranks, of a bar's row, of a name's row.
AXIS, BAR, ROW = 52, 9, 19
MARGIN = 8


def groups(ranks: Sequence[float], critical: float) -> list[tuple[int, int]]:
    """The largest runs of arms, best first, whose mean ranks lie within the critical difference.

    Returns:
        First and last place of each run of two arms or more, in the order of the ranks.
    """
    ordered = sorted(ranks)
    found: list[tuple[int, int]] = []
    for first, best in enumerate(ordered):
        last = int(np.searchsorted(ordered, best + critical, side="right")) - 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def diagram(names: Sequence[str], ranks: Sequence[float], critical: float, width: int) -> Markup:
    """The diagram as SVG that takes its colours from the page.

    Half of the names stand on the left, half on the right, each in a row of its own.

    Args:
        names: of the arms.
        ranks: their mean ranks, 1 is best.
        critical: difference of mean ranks.
        width: in pixels.

    References:
        Demšar, *Statistical Comparisons of Classifiers over Multiple Data Sets*, JMLR 2006.
    """
    order = sorted(range(len(names)), key=lambda place: ranks[place])
    half = math.ceil(len(order) / 2)
    # Room for the longest name of each side and its mean rank.
    rooms = [
        min(0.34 * width, 7.0 * max((len(names[place]) for place in side), default=0) + 50)
        for side in (order[:half], order[half:])
    ]
    begin, end = MARGIN + rooms[0], width - MARGIN - rooms[1]
    highest = len(names)

    def at(rank: float) -> float:
        return begin + (rank - 1) / max(highest - 1, 1) * (end - begin)

    bars = groups(ranks, critical)
    levels = _levels(bars)
    top = AXIS + 8 + BAR * (max(levels, default=-1) + 1) + 8
    height = top + ROW * half + 4
    lines = [
        f'<svg class="ranks" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="critical-difference diagram" xmlns="http://www.w3.org/2000/svg">',
        _line(at(1), AXIS, at(highest), AXIS, "var(--ink)"),
    ]
    step = next(each for each in (1, 2, 5) if (end - begin) / (highest - 1) * each > 18)
    for rank in range(1, highest + 1, step):
        lines.append(_line(at(rank), AXIS - 5, at(rank), AXIS, "var(--ink)"))
        lines.append(_text(at(rank), AXIS - 9, str(rank), "middle", "var(--soft)"))
    reach = min(critical, highest - 1)
    more = "" if reach == critical else " (more than the line)"
    lines.append(_line(at(1), 14, at(1 + reach), 14, "var(--soft)", 2))
    lines += [_line(x, 10, x, 18, "var(--soft)", 2) for x in (at(1), at(1 + reach))]
    lines.append(
        _text(at(1), 30, f"critical difference {critical:.2f}{more}", "start", "var(--soft)")
    )
    for number, place in enumerate(order):
        left = number < half
        row = top + ROW * (number if left else len(order) - 1 - number)
        x, edge = at(ranks[place]), begin - 10 if left else end + 10
        points = f"{x:.1f},{AXIS} {x:.1f},{row} {edge:.1f},{row}"
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="var(--soft)" stroke-opacity="0.5"/>'
        )
        lines.append(f'<circle cx="{x:.1f}" cy="{AXIS}" r="3.5" fill="var(--accent)"/>')
        value = f"{ranks[place]:.2f}"
        # On a phone there is no room for both; the whole name has the value with it.
        wide, room = width >= 500, rooms[0 if left else 1]
        parts = [short(names[place], max(8, int((room - 16) / 6.8) - (6 if wide else 0)))]
        if wide:
            parts.append(value)
        text = "  ".join(parts if left else reversed(parts))
        at_edge = edge - 5 if left else edge + 5
        whole = f"{names[place]}: mean rank {value}"
        lines.append(_text(at_edge, row + 4, text, "end" if left else "start", "var(--ink)", whole))
    ordered = sorted(ranks)
    for (first, last), level in zip(bars, levels, strict=True):
        y = AXIS + 10 + BAR * level
        lines.append(_line(at(ordered[first]) - 3, y, at(ordered[last]) + 3, y, "var(--ink)", 4))
    return Markup("".join([*lines, "</svg>"]))


def _levels(bars: Sequence[tuple[int, int]]) -> list[int]:
    """The row of each bar, so that bars that share arms do not touch."""
    ends: list[int] = []
    levels = []
    for first, last in bars:
        level = next((n for n, end in enumerate(ends) if end < first), len(ends))
        ends[level : level + 1] = [last]
        levels.append(level)
    return levels


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: float = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" '
        f'stroke-width="{width}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str, color: str, whole: str = "") -> str:
    title = f"<title>{escape(whole)}</title>" if whole else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="12" '
        f'style="white-space: pre">{escape(text)}{title}</text>'
    )
