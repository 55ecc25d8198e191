"""Trials in worker processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle, islice
from multiprocessing.connection import wait
from typing import Any, Literal

from equipoise.problems import PROBLEMS
from equipoise.study.executors.base import Outcomes, Run, cores, positive, train
from equipoise.study.executors.worker import Worker, deaf, launch
from equipoise.study.trial import Trial


class Local:
    """Runs each trial in a fresh process of this machine.

    A fresh process shares nothing with other trials: neither random state nor memory, and its death
    costs one attempt of one trial. Workers end by themselves when this process dies. As with every use of
    :mod:`multiprocessing`, a script that runs studies guards its calls by
    ``if __name__ == "__main__":``.

    Args:
        workers: processes at a time. None takes as many as there are cores for this process; for trials
            on ``"cuda"``, as many as the GPUs have room for.
        start: how processes start. ``"forkserver"`` forks them from one that has loaded the libraries
            and nothing else, in a few hundredths of a second; ``"spawn"`` starts each anew, which CUDA
            needs. None chooses.
        function: runs a trial; must be importable by its name.
        threads: of each worker. The last digits of a trial may depend on it.
        workers_per_gpu: how many workers share a GPU; each sees that one only, as ``"cuda"``.
        time_limit: seconds a trial may take; None lets it take its time.
        retries: how often a trial is begun again whose worker died or went on beyond the limit. An
            error is not tried again: it would only happen again.
    """

    def __init__(
        self,
        workers: int | None = None,
        start: Literal["forkserver", "spawn"] | None = None,
        function: Run | None = None,
        *,
        threads: int = 1,
        workers_per_gpu: int = 1,
        time_limit: float | None = None,
        retries: int = 1,
    ) -> None:
        positive(
            workers=workers,
            threads=threads,
            workers_per_gpu=workers_per_gpu,
            time_limit=time_limit,
            attempts=retries + 1,
        )
        self.workers = workers
        self.start = start
        self.threads = threads
        self.workers_per_gpu = workers_per_gpu
        self.time_limit = time_limit
        self.retries = retries
        self._function = function or partial(train, threads=threads)

    def facts(self, trials: Sequence[Trial]) -> Mapping[str, Any]:
        """Workers, and the cores they share."""
        workers = len(self._slots(trials))
        return {
            "executor": "local",
            "workers": workers,
            "threads": self.threads,
            "cores": cores(),
        }

    def run(self, trials: Sequence[Trial]) -> Outcomes:
        """See :meth:`Executor.run`."""
        if not trials:
            return
        waiting = [(trial, 1) for trial in reversed(trials)]
        free = list(reversed(self._slots(trials)))
        running: list[Worker] = []
        context = self._context(trials)
        try:
            while waiting or running:
                while waiting and free:
                    trial, attempt = waiting.pop()
                    surroundings = _surroundings(self.threads, gpu := free.pop())
                    running.append(
                        Worker.begin(context, self._function, trial, attempt, gpu, surroundings)
                    )
                for worker in self._ended(running):
                    running.remove(worker)
                    free.append(worker.gpu)
                    outcome, died = worker.collect(self.time_limit)
                    if died and worker.attempt <= self.retries:
                        waiting.append((worker.trial, worker.attempt + 1))
                        continue
                    yield worker.trial, outcome
        finally:
            with deaf():
                for worker in running:
                    worker.end()

    def _ended(self, running: Sequence[Worker]) -> list[Worker]:
        """Waits until a worker has said something, ended, or used up its time."""
        limit = self.time_limit
        first = min(worker.began for worker in running)
        left = None if limit is None else max(0.0, first + limit - time.monotonic())
        wait([each for worker in running for each in worker.signs()], left)
        now = time.monotonic()
        return [
            worker
            for worker in running
            if worker.spoke() or (limit is not None and now >= worker.began + limit)
        ]

    def _slots(self, trials: Sequence[Trial]) -> list[str | None]:
        """A place for each worker: the GPU that it sees, or None for those that there are."""
        found = gpus() if any(trial.device == "cuda" for trial in trials) else []
        if not found:
            return [None] * (self.workers or cores())
        room = self.workers_per_gpu * len(found)
        return list(islice(cycle(found), min(room, self.workers or room)))

    def _context(self, trials: Sequence[Trial]) -> Any:
        on_cpu = all(trial.device == "cpu" for trial in trials)
        usual = "forkserver" if on_cpu and sys.platform.startswith("linux") else "spawn"
        context = multiprocessing.get_context(self.start or usual)
        if context.get_start_method() == "forkserver":
            # Optimisers import torch._dynamo when they are built, which takes longer than a short trial.
            modules = ["torch", "torch._dynamo", "equipoise.study.train"]
            problems = {PROBLEMS.get(trial.problem, "").partition(":")[0] for trial in trials}
            context.set_forkserver_preload(modules + sorted(problems - {""}))
            launch(_surroundings(self.threads, None))
        return context


def gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each.strip() for each in named.split(",") if each.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def _surroundings(threads: int, gpu: str | None) -> Mapping[str, str]:
    """Environment in which a worker starts."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    chosen = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
    return {**dict.fromkeys(names, str(threads)), **chosen}
