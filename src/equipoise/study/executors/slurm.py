"""Trials as jobs of Slurm, through submitit."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from equipoise.study.executors.base import Outcomes, Run, positive
from equipoise.study.executors.elsewhere import Elsewhere
from equipoise.study.trial import Failure, Outcome, Trial

# Slurm refuses larger arrays unless it is told otherwise (MaxArraySize is 1001).
ARRAY = 1000
# Minutes of a job that are not the trial's: starting Python, loading libraries, writing the outcome.
AROUND = 10


class Slurm:
    """Runs trials as the jobs of an array; this process waits for them, and may run on a login node.

    Jobs that still run or wait are cancelled when the study is stopped. Jobs whose driver was killed go on
    unheard: cancel them before the study is run again.

    Args:
        folder: for scripts, logs and results of jobs; every machine must see it.
        workers: jobs of an array at a time; None leaves that to Slurm.
        threads: of each trial, and cores of its job.
        gpus: of each job.
        partition: of Slurm.
        time_limit: seconds a trial may take; None takes the partition's limit.
        retries: how often a trial is begun again whose worker died or went on beyond the limit, or whose
            job was lost.
        parameters: more for :meth:`submitit.AutoExecutor.update_parameters`.
        cluster: ``"slurm"``, or ``"local"`` to try a study here.
        function: runs a trial; must be importable by its name on every machine.
        poll: seconds between looks at the jobs.

    Raises:
        ValueError: submitit is not installed, or a number makes no sense.
    """

    def __init__(
        self,
        folder: str | Path = "runs/slurm",
        workers: int | None = None,
        *,
        threads: int = 1,
        gpus: int = 0,
        partition: str | None = None,
        time_limit: float | None = None,
        retries: int = 1,
        parameters: Mapping[str, Any] | None = None,
        cluster: str = "slurm",
        function: Run | None = None,
        poll: float = 5.0,
    ) -> None:
        if find_spec("submitit") is None:
            raise ValueError('this needs submitit: pip install "equipoise[slurm]"')
        positive(workers=workers, threads=threads, time_limit=time_limit, attempts=retries + 1)
        self.folder = Path(folder)
        self.workers = workers
        self.threads = threads
        self.retries = retries
        self.cluster = cluster
        self.poll = poll
        self._parameters: dict[str, Any] = {"cpus_per_task": threads, "gpus_per_node": gpus}
        if time_limit is not None:
            minutes = math.ceil(time_limit * (retries + 1) / 60) + AROUND
            self._parameters["timeout_min"] = minutes
        if cluster == "slurm":
            self._parameters |= {"slurm_array_parallelism": workers or ARRAY}
            self._parameters |= {} if partition is None else {"slurm_partition": partition}
        self._parameters |= dict(parameters or {})
        self._job = Elsewhere(function, threads, time_limit, retries, str(Path.cwd()))

    def facts(self, trials: Sequence[Trial]) -> Mapping[str, Any]:
        """Workers only: each job has the cores that it computes on."""
        workers = min(self.workers or len(trials), len(trials))
        return {
            "executor": self.cluster,
            "workers": workers,
            "threads": self.threads,
            "cores": None,
        }

    def run(self, trials: Sequence[Trial]) -> Outcomes:
        """See :meth:`Executor.run`."""
        if not trials:
            return
        import submitit

        try:
            place = submitit.AutoExecutor(folder=self.folder, cluster=self.cluster)
        except RuntimeError as error:
            raise ValueError(
                f"Slurm cannot be reached ({error}); is sbatch on the path?"
            ) from error
        place.update_parameters(**self._parameters)
        waiting = [(trial, 1) for trial in trials]
        running: list[tuple[Any, Trial, int]] = []
        try:
            while waiting or running:
                batch, waiting = waiting[:ARRAY], waiting[ARRAY:]
                if batch:
                    jobs = place.map_array(self._job, [trial for trial, _ in batch])
                    running += [
                        (job, trial, attempt)
                        for job, (trial, attempt) in zip(jobs, batch, strict=True)
                    ]
                ended = [each for each in running if each[0].done()]
                for job, trial, attempt in ended:
                    running.remove((job, trial, attempt))
                    outcome = _outcome(job, attempt)
                    if outcome is None and attempt <= self.retries:
                        waiting.append((trial, attempt + 1))
                        continue
                    yield trial, outcome or _lost(job, attempt)
                if not ended:
                    time.sleep(self.poll)
        finally:
            for job, _, _ in running:
                job.cancel(check=False)


def _outcome(job: Any, attempt: int) -> Outcome | None:
    """What the job brought back; None if it was lost without."""
    import submitit

    try:
        outcome: Outcome = job.result()
    except submitit.core.utils.FailedJobError as error:
        return Failure(str(error).rstrip(), attempt)
    except (submitit.core.utils.UncompletedJobError, OSError, EOFError):
        return None
    return outcome


def _lost(job: Any, attempt: int) -> Failure:
    told = f"job {job.job_id} of Slurm was lost in state {job.state}; its log: {job.paths.stderr}"
    return Failure(told, attempt, "memory" if "MEMORY" in str(job.state) else "death")
