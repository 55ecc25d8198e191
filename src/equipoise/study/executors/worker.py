"""One worker process: how it begins, what it sends, and how it ends."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from equipoise.study.executors import endings
from equipoise.study.executors.base import Run
from equipoise.study.trial import Failure, Outcome, Trial

# Seconds that a worker may take to end after it has sent its outcome.
GRACE = 5.0


@dataclass
class Worker:
    """A process that runs one trial.

    Attributes:
        trial: what it runs.
        attempt: counts from 1.
        gpu: the one it sees; None for those that there are.
        began: when its process had started, by the monotonic clock.
    """

    trial: Trial
    attempt: int
    gpu: str | None
    process: BaseProcess
    receiver: Connection
    began: float
    kills: int

    @classmethod
    def begin(
        cls,
        context: Any,
        function: Run,
        trial: Trial,
        attempt: int,
        gpu: str | None,
        surroundings: Mapping[str, str],
    ) -> Worker:
        """Starts a process in these surroundings."""
        receiver, sender = context.Pipe(duplex=False)
        # Not daemonic: the trial may load its data in processes of its own.
        process = context.Process(target=_work, args=(function, trial, sender), daemon=False)
        kills = endings.kills()
        with _environment(surroundings):
            if context.get_start_method() == "spawn":
                with _without_interrupts():
                    process.start()
            else:
                process.start()
        # Only the worker may hold the sending end: its death then reads as the end of the pipe.
        sender.close()
        return cls(trial, attempt, gpu, process, receiver, time.monotonic(), kills)

    def signs(self) -> tuple[Any, ...]:
        """What becomes ready when the worker has sent something, or has ended."""
        return self.receiver, self.process.sentinel

    def spoke(self) -> bool:
        """Whether it has sent something or ended."""
        return self.receiver.poll() or self.process.exitcode is not None

    def collect(self, time_limit: float | None) -> tuple[Outcome, bool]:
        """The outcome, and whether the process died over it instead of sending it."""
        if not self.spoke() and time_limit is not None:
            self.end()
            return replace(endings.of_time(time_limit), attempts=self.attempt), True
        outcome: Outcome | None = None
        try:
            # A process of the worker that outlives it may hold the pipe open: then there is no end to read.
            if self.receiver.poll():
                outcome = self.receiver.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            pass  # it died before it sent anything, or while it did
        self.process.join(GRACE)
        code = self.process.exitcode
        self.end()
        if outcome is None:
            failure = endings.of_process(code, endings.kills() > self.kills)
            return replace(failure, attempts=self.attempt), True
        if isinstance(outcome, Failure):
            outcome = replace(outcome, attempts=self.attempt)
        return outcome, False

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self.process.kill()
        self.process.join()
        self.receiver.close()


def _work(function: Run, trial: Trial, sender: Connection) -> None:
    # Ctrl-C reaches every process of the terminal; the driver decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    try:
        sender.send(function(trial))
    except Exception as error:  # noqa: BLE001 - whatever it is, the driver hears of it
        sender.send(endings.of_error(error))


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def launch(surroundings: Mapping[str, str]) -> None:
    """Starts the process that workers are forked from, unless it runs already."""
    with _environment(surroundings), _without_interrupts():
        forkserver.ensure_running()


@contextmanager
def _environment(names: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process that is started in here hears no Ctrl-C; this one hears it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # It lets the signal through again once it has started; it must have done so before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def deaf() -> Iterator[None]:
    """Ctrl-C is ignored: what must be put away is put away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
