"""Where names may stand beside points without running into anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt

from equipoise.report.look import INK

# Where a name may stand beside its point: on which side it begins, and how far below.
SPOTS = (("left", -7), ("left", 7), ("right", -7), ("right", 7), ("left", -16), ("right", 16))
NOWHERE = -1
# Pixels of a letter, and of the narrowest figure, on a phone.
LETTER, NARROW = 6.2, 290

Box = tuple[float, float, float, float]


def spots(
    points: Sequence[tuple[float, float]], names: Sequence[str], order: Iterable[int]
) -> list[int]:
    """The number of the spot of each name, ``NOWHERE`` for those without room: a legend or the pointer tells.

    Args:
        points: in pixels of a figure as narrow as on a phone.
        names: beside them.
        order: whose turn it is.
    """
    taken = [(x - 4, x + 4, y - 4, y + 4) for x, y in points]
    found = [NOWHERE] * len(points)
    for place in order:
        (x, y), width = points[place], LETTER * len(names[place])
        for spot, (side, dy) in enumerate(SPOTS):
            start = x + 7 if side == "left" else x - 7 - width
            box = (start, start + width, y + dy - 6, y + dy + 6)
            inside = start >= -20 and start + width <= NARROW + 20
            if inside and not any(_meet(box, other) for other in taken):
                taken.append(box)
                found[place] = spot
                break
    return found


def _meet(one: Box, other: Box) -> bool:
    across = one[0] < other[1] and other[0] < one[1]
    return across and one[2] < other[3] and other[2] < one[3]


def beside(base: Any, rows: Sequence[dict[str, Any]], x: Any, y: Any) -> list[Any]:
    """Layers of names: of the rows' ``short`` at their ``spot``."""
    return [
        base.transform_filter(f"datum.spot == {number}")
        .mark_text(align=side, dx=7 if side == "left" else -7, dy=dy, fontSize=11)
        .encode(x=x, y=y, text="short:N", color=alt.value(INK))
        for number, (side, dy) in enumerate(SPOTS)
        if any(row["spot"] == number for row in rows)
    ]
