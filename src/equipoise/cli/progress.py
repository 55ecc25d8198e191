"""Progress of a study: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from equipoise.study import Failure, Outcome, Trial

# Without a terminal, at most a line in so many seconds while a stage runs.
EVERY = 10.0


def describe(trial: Trial) -> str:
    """A trial in a few words."""
    name = f"single-task {trial.task}" if trial.task else trial.method
    what = f"lr {trial.learning_rate:g}" if trial.stage == "tune" else f"seed {trial.seed}"
    return f"{name}, {what}"


def trouble(trial: Trial, outcome: Outcome) -> str | None:
    """A line about a trial that did not end well."""
    if isinstance(outcome, Failure):
        lines = outcome.error.strip().splitlines() or ["no message"]
        return f"{describe(trial)} failed: {lines[-1]}"
    if outcome.status == "diverged":
        return f"{describe(trial)} diverged: {outcome.note}"
    return None


class Live:
    """A bar for each stage, on a terminal."""

    def __init__(self) -> None:
        self.told = self
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.fields[stage]:<8}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[last]}"),
            console=Console(stderr=True),
        )

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def stage(self, name: str, total: int, kept: int) -> None:
        """See :meth:`equipoise.study.Listener.stage`."""
        if name not in self._bars:
            last = f"{kept} kept from before" if kept else ""
            self._bars[name] = self._progress.add_task("", total=total, stage=name, last=last)
            self._done = 0
        self._bar = self._bars[name]
        self._progress.update(self._bar, total=total, completed=kept + self._done)

    def finished(self, trial: Trial, outcome: Outcome) -> None:
        """See :meth:`equipoise.study.Listener.finished`."""
        self._done += 1
        self._progress.update(self._bar, advance=1, last=describe(trial))
        if (line := trouble(trial, outcome)) is not None:
            self._progress.console.print(line, style="yellow", markup=False, highlight=False)


class Lines:
    """Plain lines: one when a stage begins and ends, one every few seconds between."""

    def __init__(self, stream: TextIO | None = None, every: float = EVERY) -> None:
        self.told = self
        self._name = ""
        self._done = self._kept = self._total = 0
        self._stream = stream or sys.stderr
        self._every = every

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None

    def stage(self, name: str, total: int, kept: int) -> None:
        """See :meth:`equipoise.study.Listener.stage`."""
        self._total, self._kept = total, kept
        if name == self._name:
            if self._kept + self._done == total:
                self._say_how_far()
            return
        self._name, self._done = name, 0
        self._began = self._spoke = time.monotonic()
        self._say(f"{name}: {total} trials" + (f", {kept} kept from before" if kept else ""))

    def finished(self, trial: Trial, outcome: Outcome) -> None:
        """See :meth:`equipoise.study.Listener.finished`."""
        self._done += 1
        if (line := trouble(trial, outcome)) is not None:
            self._say(line)
        late = time.monotonic() - self._spoke >= self._every
        if late or self._kept + self._done == self._total:
            self._say_how_far()

    def _say_how_far(self) -> None:
        self._spoke = time.monotonic()
        done = self._kept + self._done
        self._say(f"{self._name}: {done}/{self._total} after {self._spoke - self._began:.0f} s")

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)
