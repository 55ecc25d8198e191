"""One trial in a worker process, on whichever machine a cluster chose."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from equipoise.study.executors.base import Run
from equipoise.study.executors.local import Local
from equipoise.study.trial import Outcome, Trial


@dataclass(frozen=True)
class Elsewhere:
    """Runs a trial as :class:`Local` does with one worker, in the folder of the driver.

    A cluster says where a trial runs; how it runs, and how its end is named, is the same everywhere.
    """

    function: Run | None
    threads: int
    time_limit: float | None
    retries: int
    folder: str

    def __call__(self, trial: Trial) -> Outcome:
        """The trial's outcome."""
        # Paths of a study are relative to where it was started.
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        alone = Local(
            1,
            function=self.function,
            threads=self.threads,
            time_limit=self.time_limit,
            retries=self.retries,
        )
        ((_, outcome),) = alone.run([trial])
        return outcome
