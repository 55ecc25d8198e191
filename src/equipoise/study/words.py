"""Counts and lists in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence


def counted(count: int, one: str, many: str = "") -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(texts: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def p_value(p: float) -> str:
    """``0.012``, ``< 0.001``, or a dash where there is none."""
    return "–" if not math.isfinite(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_equals(p: float) -> str:
    """``p = 0.012`` or ``p < 0.001``."""
    return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


def some(texts: Sequence[str], most: int = 6) -> str:
    """All of them, or the first and the number of the others."""
    if len(texts) <= most:
        return ", ".join(texts)
    return f"{', '.join(texts[: most - 1])} and {len(texts) - most + 1} others"
