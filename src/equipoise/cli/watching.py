"""The command ``equipoise watch``: how far a study is, while it runs."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from equipoise.cli.stores import DB
from equipoise.cli.told import told
from equipoise.study import Store
from equipoise.study.lock import held
from equipoise.study.standing import NOTHING, WAITING, ArmStanding, counts, seconds_left, standing
from equipoise.study.trial import FINISHED

SIGNS = {**{state: state for state in (*FINISHED, "failed")}, WAITING: ".", NOTHING: "none"}
STYLES = {
    "done": "green",
    "diverged": "yellow",
    "pruned": "dim",
    "failed": "red",
    WAITING: "dim",
    NOTHING: "red",
}


def watch(
    store: DB,
    once: Annotated[bool, typer.Option("--once", help="print it once and end")] = False,
    every: Annotated[float, typer.Option(help="seconds between looks", min=0.1)] = 2.0,
) -> None:
    """Watch a study: every arm and seed, the best score on validation, the time left."""
    with told():
        if once:
            Console().print(frame(store))
            return
        with Live(frame(store), auto_refresh=False, screen=False) as live:
            while not _over(store):
                time.sleep(every)
                live.update(frame(store), refresh=True)


def frame(path: Path) -> Group:
    """What is shown at one moment."""
    with Store(path, read_only=True) as store:
        arms = standing(store)
        found = counts(store, arms)
        left = seconds_left(store, found[WAITING])
    return Group(_table(arms), Text(_line(path, found, left)))


def _over(path: Path) -> bool:
    """Nobody will add to the study."""
    return not held(path)


def _table(arms: Sequence[ArmStanding]) -> Table:
    seeds = list(dict.fromkeys(seed for arm in arms for seed in arm.finals))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("arm", "tuning", "best on validation", *(f"seed {seed}" for seed in seeds)):
        table.add_column(column)
    for arm in arms:
        ended = sum(state != WAITING for state in arm.tuning)
        best = "" if math.isnan(arm.best) else f"{arm.best:+.4g}"
        states = (arm.finals.get(seed, WAITING) for seed in seeds)
        cells = (Text(SIGNS[state], style=STYLES[state]) for state in states)
        table.add_row(arm.label, f"{ended}/{len(arm.tuning)}", best, *cells)
    return table


def _line(path: Path, found: Counter[str], left: float | None) -> str:
    ended = sum(found.values()) - found[WAITING]
    told = f"{ended}/{sum(found.values())} trials, {found['failed']} failed"
    if not found[WAITING]:
        return f"{told}; finished"
    if not held(path):
        return f"{told}; no run writes to it"
    return told if left is None else f"{told}; about {_duration(left)} left"


def _duration(seconds: float) -> str:
    minutes, hours = math.ceil(seconds / 60), math.floor(seconds / 3600)
    return f"{hours} h {minutes - 60 * hours} min" if hours else f"{minutes} min"
