"""Where trials run: in worker processes, or in this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Literal, Protocol

from equipoise.problems import PROBLEMS
from equipoise.study.trial import Failure, Outcome, Result, Trial

Run = Callable[[Trial], Result]
# A worker that dies is tried once more; an error is not, it would only happen again.
ATTEMPTS = 2


class Executor(Protocol):
    """Runs trials."""

    def run(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, Outcome]]:
        """Yields each trial with its outcome as soon as there is one, in any order."""
        ...


class Inline:
    """Runs trials one after the other in this process; an error of a trial is raised, for debugging."""

    def __init__(self, function: Run | None = None) -> None:
        self._function = function or _run

    def run(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, Outcome]]:
        """See :meth:`Executor.run`."""
        for trial in trials:
            yield trial, self._function(trial)


class Local:
    """Runs each trial in a fresh process of this machine.

    A fresh process shares nothing with other trials: neither random state nor memory, and its death
    costs one attempt of one trial. Workers end by themselves when this process dies. As with every use of
    :mod:`multiprocessing`, a script that runs studies guards its calls by
    ``if __name__ == "__main__":``.

    Args:
        workers: processes at a time; None takes as many as there are cores for this process.
        start: how processes start. ``"forkserver"`` forks them from one that has loaded the libraries
            and nothing else, in a few hundredths of a second; ``"spawn"`` starts each anew, which CUDA
            needs. None chooses.
        function: runs a trial; must be importable by its name.
    """

    def __init__(
        self,
        workers: int | None = None,
        start: Literal["forkserver", "spawn"] | None = None,
        function: Run | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers is {workers}, but at least one process must run")
        self.workers = workers or cores()
        self.start = start
        self._function = function or _run

    def run(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, Outcome]]:
        """See :meth:`Executor.run`."""
        waiting = [(trial, 1) for trial in reversed(trials)]
        running: list[_Worker] = []
        context = self._context(trials)
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    trial, attempt = waiting.pop()
                    running.append(_Worker.begin(context, self._function, trial, attempt))
                wait([worker.receiver for worker in running])
                for worker in [each for each in running if each.receiver.poll()]:
                    running.remove(worker)
                    outcome = worker.collect()
                    if outcome is None and worker.attempt < ATTEMPTS:
                        waiting.append((worker.trial, worker.attempt + 1))
                        continue
                    yield worker.trial, outcome or worker.failure()
        finally:
            for worker in running:
                worker.end()

    def _context(self, trials: Sequence[Trial]) -> Any:
        on_cpu = all(trial.device == "cpu" for trial in trials)
        usual = "forkserver" if on_cpu and sys.platform.startswith("linux") else "spawn"
        context = multiprocessing.get_context(self.start or usual)
        if context.get_start_method() == "forkserver":
            # Optimisers import torch._dynamo when they are built, which takes longer than a short trial.
            modules = ["torch", "torch._dynamo", "equipoise.study.train"]
            problems = {PROBLEMS.get(trial.problem, "").partition(":")[0] for trial in trials}
            context.set_forkserver_preload(modules + sorted(problems - {""}))
        return context


@dataclass
class _Worker:
    trial: Trial
    attempt: int
    process: BaseProcess
    receiver: Connection

    @classmethod
    def begin(cls, context: Any, function: Run, trial: Trial, attempt: int) -> _Worker:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(function, trial, sender), daemon=True)
        with _one_thread_each():
            process.start()
        # Only the worker may hold the sending end: its death then reads as the end of the pipe.
        sender.close()
        return cls(trial, attempt, process, receiver)

    def collect(self) -> Outcome | None:
        """The outcome the worker sent; None if it died without."""
        try:
            outcome: Outcome | None = self.receiver.recv()
        except EOFError:
            outcome = None
        self.process.join()
        self.receiver.close()
        return (
            outcome if not isinstance(outcome, Failure) else replace(outcome, attempts=self.attempt)
        )

    def failure(self) -> Failure:
        code = self.process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        return Failure(f"the worker ended {how} without a result", self.attempt)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.receiver.close()


class _Reporting:
    """Sends the error that ends a worker to the driver, whatever it is."""

    def __init__(self, sender: Connection) -> None:
        self._sender = sender

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> bool:
        if isinstance(error, Exception):
            self._sender.send(Failure("".join(traceback.format_exception(error)).rstrip()))
            return True
        return False


def _work(function: Run, trial: Trial, sender: Connection) -> None:
    # Ctrl-C reaches every process of the terminal; the driver decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    with _Reporting(sender):
        sender.send(function(trial))


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _run(trial: Trial) -> Result:
    # Imported where it is needed: the driver itself does not train.
    from equipoise.study.train import run

    return run(trial, threads=1)


class _one_thread_each:  # noqa: N801 - reads as the statement it is
    """Environment in which new processes start with one thread in every numerical library."""

    NAMES: Mapping[str, str] = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
    )

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in self.NAMES}
        os.environ.update(self.NAMES)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
