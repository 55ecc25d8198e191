"""Names for the ways in which a trial ends without a result."""

from __future__ import annotations

import signal
import traceback
from pathlib import Path

from equipoise.problems.files import DataError
from equipoise.study.trial import Failure

_VMSTAT = Path("/proc/vmstat")
_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


def of_error(error: Exception) -> Failure:
    """The trial raised."""
    if isinstance(error, DataError):
        return Failure(str(error), cause="data")
    try:
        told = "".join(traceback.format_exception(error)).rstrip()
        last = told.splitlines()[-1]
    except MemoryError:
        return Failure("out of memory: too little was left to say where", cause="memory")
    # torch says it by its own error on a GPU, and by a plain RuntimeError on a CPU.
    if isinstance(error, MemoryError) or any(sign in last.lower() for sign in _MEMORY):
        return Failure(f"{told}\nout of memory: {last}", cause="memory")
    return Failure(told)


def of_process(code: int | None, system_short: bool) -> Failure:
    """The process ended by itself, or was ended.

    Args:
        code: its exit code; below zero for a signal.
        system_short: whether the system ended a process since this one began, for lack of memory.
    """
    if code is None or code >= 0:
        return Failure(f"the worker ended with exit code {code} without a result", cause="death")
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
    if name == "SIGKILL" and system_short:
        told = "out of memory: the system ended the worker (signal 9, SIGKILL)"
        return Failure(told, cause="memory")
    told = f"the worker ended by signal {-code} ({name}) without a result"
    return Failure(told, cause="death")


def of_time(limit: float) -> Failure:
    """The trial went on beyond its limit."""
    told = f"the worker was ended after {limit:g} s, the time limit of a trial"
    return Failure(told, cause="time")


def kills() -> int:
    """Processes that the system has ended for lack of memory since it started; 0 where it does not say."""
    try:
        lines = _VMSTAT.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
