"""Trials on a Ray cluster, or on one that is started here."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from equipoise.study.executors.base import Outcomes, Run, positive
from equipoise.study.executors.elsewhere import Elsewhere
from equipoise.study.trial import Failure, Outcome, Trial


class Ray:
    """Runs trials as tasks of Ray, which places them; every machine needs the package and the data.

    Each trial has a worker process of its own inside its task, as with :class:`Local`. Where a trial
    ran is Ray's to know: the store says how many cores the cluster had.

    Args:
        address: of a cluster, as :func:`ray.init` takes it; None starts one on this machine.
        workers: trials at a time; None leaves that to the cluster.
        threads: of each trial, which takes as many cores.
        gpus: of each trial; a half lets two trials share one.
        time_limit: seconds a trial may take; None lets it take its time.
        retries: how often a trial is begun again whose worker died or went on beyond the limit, or whose
            Ray worker or machine was lost.
        function: runs a trial; must be importable by its name on every machine.

    Raises:
        ValueError: Ray is not installed, or a number makes no sense.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        *,
        threads: int = 1,
        gpus: float = 0.0,
        time_limit: float | None = None,
        retries: int = 1,
        function: Run | None = None,
    ) -> None:
        if find_spec("ray") is None:
            raise ValueError('this needs Ray: pip install "equipoise[ray]"')
        positive(workers=workers, threads=threads, time_limit=time_limit, attempts=retries + 1)
        if gpus < 0:
            raise ValueError(f"gpus is {gpus}, and must not be below 0")
        self.address = address
        self.workers = workers
        self.threads = threads
        self.gpus = gpus
        self.retries = retries
        self._job = Elsewhere(function, threads, time_limit, retries, str(Path.cwd()))

    def facts(self, trials: Sequence[Trial]) -> Mapping[str, Any]:
        """Workers, and the cores of the cluster: each trial holds those that it computes on."""
        with _Connected(self.address) as ray:
            cores = int(ray.cluster_resources().get("CPU", 0))
        room = max(1, cores // self.threads)
        workers = room if self.workers is None else min(room, self.workers)
        return {"executor": "ray", "workers": workers, "threads": self.threads, "cores": cores}

    def run(self, trials: Sequence[Trial]) -> Outcomes:
        """See :meth:`Executor.run`."""
        if not trials:
            return
        with _Connected(self.address) as ray:
            # Deaths are counted here, where each costs its trial an attempt, as with every executor.
            task = ray.remote(num_cpus=self.threads, num_gpus=self.gpus, max_retries=0)(_task)
            waiting = [(trial, 1) for trial in reversed(trials)]
            running: dict[Any, tuple[Trial, int]] = {}
            try:
                while waiting or running:
                    while waiting and len(running) < (self.workers or len(trials)):
                        trial, attempt = waiting.pop()
                        running[task.remote(self._job, trial)] = trial, attempt
                    (ended, *_), _ = ray.wait(list(running), num_returns=1)
                    trial, attempt = running.pop(ended)
                    outcome = _outcome(ray, ended, attempt)
                    lost = isinstance(outcome, Failure) and outcome.error.startswith(_LOST)
                    if lost and attempt <= self.retries:
                        waiting.append((trial, attempt + 1))
                        continue
                    yield trial, outcome
            finally:
                for each in running:
                    ray.cancel(each, force=True)


_LOST = "the Ray worker was lost: "


def _task(job: Elsewhere, trial: Trial) -> Outcome:
    return job(trial)


def _outcome(ray: Any, task: Any, attempt: int) -> Outcome:
    try:
        outcome: Outcome = ray.get(task)
    except ray.exceptions.OutOfMemoryError as error:
        return Failure(f"{_LOST}out of memory: {_first(error)}", attempt, "memory")
    except ray.exceptions.RayTaskError as error:
        return Failure(str(error).rstrip(), attempt)
    except ray.exceptions.RayError as error:
        return Failure(f"{_LOST}{type(error).__name__}: {_first(error)}", attempt, "death")
    return outcome


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


class _Connected:
    """A connection to the cluster: the one there is, or one that ends with this."""

    def __init__(self, address: str | None) -> None:
        self._address = address

    def __enter__(self) -> Any:
        import ray

        self._began = not ray.is_initialized()
        if self._began:
            ray.init(
                address=self._address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        return ray

    def __exit__(self, *_: object) -> None:
        import ray

        if self._began:
            ray.shutdown()
