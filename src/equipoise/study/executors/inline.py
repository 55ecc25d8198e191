"""Trials in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from equipoise.study.executors import endings
from equipoise.study.executors.base import Outcomes, Run, cores, positive, train
from equipoise.study.trial import Outcome, Trial


class Inline:
    """Runs trials one after the other in this process.

    Args:
        function: runs a trial.
        threads: torch threads of a trial.
        debug: lets the error of a trial through, instead of recording it, for a debugger.
    """

    def __init__(self, function: Run | None = None, threads: int = 1, debug: bool = False) -> None:
        positive(threads=threads)
        self._function = function or partial(train, threads=threads)
        self._threads = threads
        self._debug = debug

    def facts(self, trials: Sequence[Trial]) -> Mapping[str, Any]:
        """Workers, and the cores they share."""
        return {"executor": "inline", "workers": 1, "threads": self._threads, "cores": cores()}

    def run(self, trials: Sequence[Trial]) -> Outcomes:
        """See :meth:`Executor.run`."""
        for trial in trials:
            yield trial, self._outcome(trial)

    def _outcome(self, trial: Trial) -> Outcome:
        try:
            return self._function(trial)
        except Exception as error:
            if self._debug:
                raise
            return endings.of_error(error)
