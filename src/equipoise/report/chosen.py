"""What tuning chose: every tuned value, and which seeds chose it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from equipoise.report.table import EMPTY, Cell, Table
from equipoise.study import ArmFindings, Candidate, Findings
from equipoise.study.verdict import MINUS

# Of more different values than this a cell of a large table gives the ends.
LISTED = 3
# Of more weights than this the ends are told.
WEIGHTS = 6


def setting(each: ArmFindings) -> str:
    """What each seed chose, in a line: ``0.01, c 0.5 (3 seeds); 0.003, c 0.2 (2)``."""
    texts = [_together(each, candidate) for candidate in _of_seeds(each)]
    return by_seeds(texts, most=len(texts), between="; " if any("," in t for t in texts) else ", ")


def _together(each: ArmFindings, candidate: Candidate) -> str:
    decay = f"decay {candidate.weight_decay:g}" if decays_of(each) else ""
    return ", ".join(
        filter(None, [f"{candidate.learning_rate:g}", decay, _options(each, candidate)])
    )


def by_seeds(values: Sequence[str], most: int = LISTED, between: str = ", ") -> str:
    """The different values, with the number of seeds that chose them: ``0.01 (3 seeds), 0.003 (2)``."""
    counts = Counter(values)
    if len(counts) < 2:
        return next(iter(counts), EMPTY)
    if len(counts) > most:
        return _ends(list(counts))
    told = [f"{value} ({count})" for value, count in counts.most_common()]
    first, count = counts.most_common(1)[0]
    told[0] = f"{first} ({count} seed{'s' if count > 1 else ''})"
    return between.join(told)


def _ends(values: list[str]) -> str:
    try:
        ordered = sorted(values, key=float)
    except ValueError:
        return f"{len(values)} different ones"
    return f"{ordered[0]} to {ordered[-1]} ({len(values)} different ones)"


def _of_seeds(each: ArmFindings) -> list[Candidate]:
    """The choice of each seed, most frequent first."""
    return [candidate for candidate, places in each.choice.chosen.items() for _ in places]


def rate_of(each: ArmFindings) -> list[str]:
    """The learning rate that each seed chose."""
    return [f"{candidate.learning_rate:g}" for candidate in _of_seeds(each)]


def decays_of(each: ArmFindings) -> list[str]:
    """The weight decay that each seed chose; empty where there was one only."""
    if len({one.weight_decay for one in each.choice.scores}) < 2:
        return []
    return [f"{candidate.weight_decay:g}" for candidate in _of_seeds(each)]


def options_of(each: ArmFindings) -> list[str]:
    """The searched options that each seed chose; empty where none was searched."""
    if not each.arm.search:
        return []
    return [_options(each, candidate) for candidate in _of_seeds(each)]


def _options(each: ArmFindings, candidate: Candidate) -> str:
    parts = []
    for name in each.arm.search:
        value = candidate.option(name)
        if isinstance(value, list) and len(value) > WEIGHTS:
            parts.append(f"{name} {min(value):g} to {max(value):g}")
        else:
            parts.append(candidate.told(name))
    return ", ".join(parts)


TUNED: Mapping[str, Callable[[ArmFindings], list[str]]] = {
    "learning rate": rate_of,
    "weight decay": decays_of,
    "options": options_of,
}


def chosen(found: Findings) -> Table | None:
    """One row for every setting that an arm's seeds chose."""
    decays = any(decays_of(each) for each in found.all_arms)
    rows = []
    for each in found.all_arms:
        for candidate, places in each.choice.chosen.items():
            seeds = ", ".join(str(found.spec.seeds[place]) for place in places)
            decay = [Cell(f"{candidate.weight_decay:g}")] if decays else []
            rows.append(
                [
                    Cell(each.arm.label, "control" if each.arm.control else ""),
                    Cell("all" if len(places) == len(found.spec.seeds) else seeds),
                    Cell(f"{candidate.learning_rate:g}"),
                    *decay,
                    Cell(candidate.told(*each.arm.search) or EMPTY, "words"),
                    Cell(_score(found, each, places)),
                ]
            )
    if not rows:
        return None
    columns = [
        "method",
        "seeds",
        "learning rate",
        *["weight decay"] * decays,
        "options",
        "validation",
    ]
    units = ["", "that chose it", "", *[""] * decays, "searched", "Delta_m, or first metric"]
    return Table(columns, rows, units)


def _score(found: Findings, each: ArmFindings, places: Sequence[int]) -> str:
    """On validation, mean over the seeds that chose it."""
    own = [each.choice.by_seed[place] for place in places]
    scores = [
        each.choice.scores_by_seed[one][place]
        for one, place in zip(own, places, strict=True)
        if one is not None
    ]
    mean = float(np.mean([np.nan if score is None else score for score in scores]))
    first = next((m for m in found.measures if m.task == each.arm.task), None)
    if first is not None and not first.higher_is_better:
        mean = -mean
    return f"{mean:.4g}".replace("-", MINUS) if math.isfinite(mean) else EMPTY
