"""Joins two stores of one study that ran on two machines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.study.schema import MEASURED
from equipoise.study.selection import study_of
from equipoise.study.store import Store
from equipoise.study.trial import FINISHED

# What must be equal before trials of two stores are trials of one study.
SAME = ("spec", "problems", "fingerprint")


@dataclass(frozen=True)
class Merged:
    """What was joined.

    Attributes:
        first: trials taken from the first store.
        second: trials taken from the second one.
        both: trials that both had finished, with equal numbers.
        different: trials that both had finished, with different numbers; the first store's were taken.
        largest: the largest difference of a number, relative to the larger of the two.
    """

    first: int
    second: int
    both: int
    different: int
    largest: float


def merge(first: Store, second: Store, out: Path, keep_first: bool = False) -> Merged:
    """Writes a store that holds the trials of both.

    A trial that finished in one store and failed in the other is taken as it finished. One that finished
    in both must have the same numbers, times apart; on different processors last digits may differ.

    Args:
        first: a store.
        second: a store of the same study.
        out: the file to write.
        keep_first: takes the first store's numbers where the two differ, instead of refusing.

    Raises:
        ValueError: the stores are of different studies, ``out`` exists, or numbers differ.
    """
    if out.exists():
        raise ValueError(f"{str(out)!r} is there already; give another --out")
    for key in SAME:
        if _fact(first, key) != _fact(second, key):
            raise ValueError(_unlike(first, second, key))
    mine, theirs = first.trials(), second.trials()
    overlap = [
        trial
        for trial in mine
        if mine[trial].status in FINISHED and trial in theirs and theirs[trial].status in FINISHED
    ]
    gaps = _gaps(first, second, overlap)
    largest = max(gaps.values(), default=0.0)
    if gaps and not keep_first:
        name = theirs[next(iter(gaps))].trial
        raise ValueError(
            f"{len(gaps)} of {len(overlap)} trials that both stores finished have different numbers, by "
            f"up to {largest:.2g} of their value; the first is {name.method} with seed {name.seed}. "
            f"--keep-first takes those of {str(first.path)!r}"
        )
    second_only = {
        trial
        for trial, stored in theirs.items()
        if trial not in mine or (stored.status in FINISHED and mine[trial].status not in FINISHED)
    }
    first_only = set(mine) - second_only
    with Store(out) as joined:
        joined.set(**{key: first.get(key) for key in (*SAME, "version")})
        searched = {**(second.get("named") or {}), **(first.get("named") or {})}
        if searched:
            joined.set(named=searched)
        kept = list(dict.fromkeys([*(first.get("kept") or []), *(second.get("kept") or [])]))
        if kept:
            joined.set(kept=kept)
        joined.take(first, first_only)
        joined.take(second, second_only)
    return Merged(len(first_only), len(second_only), len(overlap) - len(gaps), len(gaps), largest)


def _fact(store: Store, key: str) -> Any:
    """A fact of a store; of a study with every key, also those that came after it was written."""
    value = store.get(key)
    known = key == "spec" and value is not None
    return study_of(store).model_dump(mode="json") if known else value


def _unlike(first: Store, second: Store, key: str) -> str:
    names = f"{str(first.path)!r} and {str(second.path)!r}"
    if key != "spec":
        return (
            f"{names} differ in their {key}: the problem was another one, and trials do not compare"
        )
    one, two = _fact(first, "spec") or {}, _fact(second, "spec") or {}
    keys = sorted(key for key in {*one, *two} if one.get(key) != two.get(key))
    return f"{names} are not the same study: they differ in {', '.join(keys) or 'being one at all'}"


def _gaps(first: Store, second: Store, trials: list[str]) -> dict[str, float]:
    """The largest relative difference of every trial that is not the same in both stores."""
    numbers = [_numbers(first, trials), _numbers(second, trials)]
    gaps: dict[str, float] = {}
    for trial in trials:
        one, two = (found[trial] for found in numbers)
        if one != two:
            shared = one.keys() & two.keys()
            alike = one.keys() == two.keys()
            gaps[trial] = (
                max((_apart(one[k], two[k]) for k in shared), default=1.0) if alike else 1.0
            )
    return gaps


def _apart(one: Any, two: Any) -> float:
    if one == two:
        return 0.0
    if not isinstance(one, float) or not isinstance(two, float):
        return 1.0
    gap = abs(one - two) / max(abs(one), abs(two))
    return gap if math.isfinite(gap) else 1.0


def _numbers(store: Store, trials: list[str]) -> dict[str, dict[tuple[Any, ...], Any]]:
    """Everything measured of some trials, by what it is; times are left out."""
    found: dict[str, dict[tuple[Any, ...], Any]] = {trial: {} for trial in trials}
    for trial, stored in store.trials().items():
        if trial in found:
            found[trial]["outcome",] = (stored.status, stored.note, stored.initial, stored.order)
    for table in MEASURED:
        columns, rows = store.table(table)
        keys = [place for place, name in enumerate(columns) if name not in VALUES and place]
        values = [place for place, name in enumerate(columns) if name in VALUES]
        for row in rows:
            if row[0] in found:
                for place in values:
                    name = (table, columns[place], *(row[key] for key in keys))
                    found[row[0]][name] = row[place]
    return found


VALUES = ("value", "mean", "std")
