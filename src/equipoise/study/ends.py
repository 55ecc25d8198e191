"""Chosen values that lie at an end of what was tried: a better one may lie beyond."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from equipoise.study.arm_findings import ArmFindings
from equipoise.study.findings import Findings
from equipoise.study.proposals import Proposed
from equipoise.study.spaces import Candidate, Drawn, Frozen, Values
from equipoise.study.values import Coarse, Range

Side = Literal["lowest", "highest"]
# A value drawn from a range is at its end within this share of the way.
NEAR = 0.05


@dataclass(frozen=True)
class End:
    """An end of what was tried, and the arms of which most seeds chose it.

    Attributes:
        name: of what was tuned.
        side: which end.
        limits: the lowest and the highest that could be tried.
        drawn: whether values were drawn from between these; or else they were listed.
        labels: of the arms.
    """

    name: str
    side: Side
    limits: tuple[float, float]
    drawn: bool
    labels: tuple[str, ...]


def ends(found: Findings) -> list[End]:
    """All ends that were chosen."""
    at: dict[tuple[str, Side, tuple[float, float], bool], list[str]] = {}
    for each in found.all_arms:
        for name, limits, values in _axes(found, each):
            drawn = found.spec.how != "grid"
            for side in _sides(values, limits, NEAR if drawn else 0.0):
                key = (name, side, (limits.low, limits.high), drawn)
                at.setdefault(key, []).append(each.arm.label)
    return [End(*key, labels=tuple(labels)) for key, labels in at.items()]


def _sides(values: list[float], limits: Range, near: float) -> Iterator[Side]:
    shares = [limits.share(value) for value in values]
    # Nothing lies below 0 in what cannot be negative, such as a weight decay.
    if limits.low != 0 and 2 * sum(share <= near for share in shares) > len(shares):
        yield "lowest"
    if 2 * sum(share >= 1 - near for share in shares) > len(shares):
        yield "highest"


def _axes(found: Findings, each: ArmFindings) -> Iterator[tuple[str, Range, list[float]]]:
    """Every number that was tuned: its name, its limits, and what each seed chose."""
    chosen = [candidate for candidate in each.choice.by_seed if candidate is not None]
    tried = each.choice.scores
    space = each.arm.space
    known = space.axes.values() if isinstance(space, Drawn | Proposed | Frozen) else {}
    for name in (*_OF_TRIALS, *each.arm.search):
        values = [_read(one, name) for one in chosen]
        # What was drawn ends where it could have been drawn; the best of a few draws is often an end of them.
        listed = (
            [_read(one, name) for one in tried] if found.spec.how == "grid" else known.get(name, ())
        )
        limits = _limits(listed)
        if values and limits is not None:
            yield name.replace("_", " "), limits, values


_OF_TRIALS = ("learning_rate", "weight_decay")


def _read(candidate: Candidate, name: str) -> Any:
    return getattr(candidate, name) if name in _OF_TRIALS else candidate.option(name)


def _limits(tried: Values) -> Range | None:
    """None for words, lists, and where there is one value only."""
    if isinstance(tried, Range):
        return tried
    values = tried.coarse if isinstance(tried, Coarse) else tried
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)
    if not numbers or len(set(values)) < 2:
        return None
    return Range(low=min(values), high=max(values), log=min(values) > 0)
