"""A group of worker processes that train cases together, and outlives a case that hangs."""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import time
import traceback
from datetime import timedelta
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rank_cases import Case, Outcome
from rank_training import run

START = 120.0  # seconds until the workers must have said hello
LIMIT = 30.0  # seconds a case may take
GRACE = 8.0  # seconds the other ranks have when the first is through


class DeadlockError(Exception):
    """A rank did not come back."""


def work(rank: int, ranks: int, meeting: str, log: str, pipe: Any) -> None:
    """A worker's life: one case after the other."""
    torch.set_num_threads(1)
    with Path(log).open("w") as file:
        faulthandler.register(signal.SIGUSR1, file=file, all_threads=False)
        dist.init_process_group(
            "gloo",
            init_method=f"file://{meeting}",
            rank=rank,
            world_size=ranks,
            timeout=timedelta(seconds=20),
        )
        pipe.send_bytes(b"ready")
        number = 0
        while message := pipe.recv_bytes():
            number += 1
            try:
                result: Any = run(pickle.loads(message), rank, ranks)
            except Exception:  # noqa: BLE001 (told to the parent)
                result = traceback.format_exc()
            # After every case the ranks must still be in step.
            token = torch.tensor([number])
            dist.all_reduce(token)
            if int(token) != number * ranks:
                result = "the ranks are out of step: somebody took part in one collective too few"
            pipe.send_bytes(pickle.dumps(result))


class Pool:
    """Starts its workers at the first case, and again after one that hung or left them out of step.

    Args:
        ranks: number of workers.
        folder: for the files by which they meet.
    """

    def __init__(self, ranks: int, folder: Path) -> None:
        self.ranks, self.folder = ranks, folder
        self.generation = 0
        self.known: dict[str, list[Outcome] | Exception] = {}
        self.workers: list[Any] = []
        self.pipes: list[connection.Connection] = []

    def run(self, case: Case) -> list[Outcome]:
        """The outcome of every rank; a case is run once.

        Raises:
            DeadlockError: not all came back.
            RuntimeError: a worker broke down.
        """
        key = repr(case)
        if key not in self.known:
            self.known[key] = self._run(case)
        known = self.known[key]
        if isinstance(known, Exception):
            raise known
        return known

    def _run(self, case: Case) -> list[Outcome] | Exception:
        if not self.workers:
            self._start()
        message = pickle.dumps(case)
        for pipe in self.pipes:
            pipe.send_bytes(message)
        try:
            results = self._collect(LIMIT)
        except DeadlockError as deadlock:
            return deadlock
        broken = [f"rank {n}: {r}" for n, r in results.items() if isinstance(r, str)]
        if broken:
            self.stop()
            return RuntimeError("\n".join(broken))
        outcomes: list[Outcome] = [results[n] for n in range(self.ranks)]
        if len({tuple(step for step, _ in o.errors) for o in outcomes}) > 1:
            self.stop()
        return outcomes

    def stop(self) -> None:
        """Ends the workers."""
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.join()
        self.workers, self.pipes = [], []

    def _start(self) -> None:
        self.generation += 1
        context = get_context("spawn")
        meeting = self.folder / f"meeting-{self.ranks}-{self.generation}"
        for rank in range(self.ranks):
            here, there = context.Pipe()
            log = self.folder / f"stack-{self.ranks}-{rank}"
            worker = context.Process(
                target=work,
                args=(rank, self.ranks, str(meeting), str(log), there),
                daemon=True,
            )
            worker.start()
            there.close()
            self.workers.append(worker)
            self.pipes.append(here)
        self._collect(START, unpack=False)

    def _collect(self, limit: float, unpack: bool = True) -> dict[int, Any]:
        results: dict[int, Any] = {}
        end = time.monotonic() + limit
        while len(results) < self.ranks:
            waiting = {p: n for n, p in enumerate(self.pipes) if n not in results}
            ready = connection.wait(list(waiting), timeout=max(0.0, end - time.monotonic()))
            if not ready:
                raise DeadlockError(self._who_hangs(results))
            for pipe in ready:
                rank = waiting[pipe]  # type: ignore[index]
                try:
                    message = self.pipes[rank].recv_bytes()
                except EOFError:
                    results[rank] = "the worker died"
                    continue
                results[rank] = pickle.loads(message) if unpack else message
            if unpack:
                end = min(end, time.monotonic() + GRACE)
        return results

    def _who_hangs(self, results: dict[int, Any]) -> str:
        """Where the others are, and what those said that came back; ends all."""
        said = []
        for rank, worker in enumerate(self.workers):
            if rank in results:
                said.append(f"rank {rank} came back: {results[rank]}")
                continue
            worker_log = self.folder / f"stack-{self.ranks}-{rank}"
            os.kill(worker.pid, signal.SIGUSR1)
            time.sleep(0.3)
            said.append(f"rank {rank} hangs:\n{worker_log.read_text()[:2000]}")
        self.stop()
        return "\n".join(said)
