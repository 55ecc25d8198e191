"""What an executor is."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol

from equipoise.study.trial import Outcome, Result, Trial

Run = Callable[[Trial], Result]
Outcomes = Generator[tuple[Trial, Outcome], None, None]


class Executor(Protocol):
    """Runs trials. Whatever becomes of a trial is its outcome: an executor raises for no trial."""

    def run(self, trials: Sequence[Trial]) -> Outcomes:
        """Yields each trial with its outcome as soon as there is one, in any order.

        Closing the iterator ends what still runs.
        """
        ...


def facts(executor: Executor, trials: Sequence[Trial]) -> Mapping[str, Any]:
    """What an executor says of the surroundings of trials: how many at a time, on how many cores.

    An executor that has something to say has a method ``facts(trials)``.
    """
    asked = getattr(executor, "facts", None)
    return {} if asked is None else dict(asked(trials))


def train(trial: Trial, threads: int = 1) -> Result:
    """Runs a trial in this process."""
    # Imported where it is needed: the driver itself does not train.
    from equipoise.study.train import run

    return run(trial, threads=threads)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def positive(**given: float | None) -> None:
    """Refuses numbers that are not above zero; None stands for no number.

    Raises:
        ValueError: one is not.
    """
    for name, value in given.items():
        if value is not None and value <= 0:
            raise ValueError(f"{name} is {value}, and must be above 0")
