"""A group of worker processes that train cases together, and outlives a case that hangs."""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import time
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
# Restarts after which nothing more is tried: a package that hangs everywhere must not take an hour.
PATIENCE = 15


class BrokenRanksError(Exception):
    """A rank did not come back, or the ranks are out of step."""


def work(rank: int, ranks: int, meeting: str, log: str, pipe: Any) -> None:
    """A worker's life: one case after the other, and after each a proof that the ranks are in step."""
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
        pipe.send_bytes(pickle.dumps("hello"))
        while True:
            case = pickle.loads(pipe.recv_bytes())
            if isinstance(case, Case):
                answer: Any = run(case, rank, ranks)
            else:
                token = torch.tensor([case])
                dist.all_reduce(token)
                answer = int(token)
            pipe.send_bytes(pickle.dumps(answer))


class Pool:
    """Starts its workers at the first case, and again after one that hung or left them out of step.

    Args:
        ranks: number of workers.
        folder: for the files by which they meet.
    """

    def __init__(self, ranks: int, folder: Path) -> None:
        self.ranks, self.folder = ranks, folder
        self.starts = 0
        self.known: dict[str, list[Outcome] | BrokenRanksError] = {}
        self.workers: list[Any] = []
        self.pipes: list[connection.Connection] = []

    def run(self, case: Case) -> list[Outcome]:
        """The outcome of every rank; a case is run once.

        Raises:
            BrokenRanksError: not all came back, or not at the same point.
        """
        key = repr(case)
        if key not in self.known:
            try:
                self.known[key] = self._run(case)
            except BrokenRanksError as broken:
                self.stop()
                self.known[key] = broken
        known = self.known[key]
        if isinstance(known, BrokenRanksError):
            raise known
        return known

    def _run(self, case: Case) -> list[Outcome]:
        if not self.workers:
            self._start()
        outcomes: list[Outcome] = self._ask(case, LIMIT)
        if len({tuple(step for step, _ in o.errors) for o in outcomes}) > 1:
            # Some raised and some did not: what they have sent each other no longer matches.
            self.stop()
        elif self._ask(self.starts, LIMIT) != [self.starts * self.ranks] * self.ranks:
            raise BrokenRanksError("somebody took part in one collective too few")
        return outcomes

    def stop(self) -> None:
        """Ends the workers."""
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.join()
        self.workers, self.pipes = [], []

    def _start(self) -> None:
        if self.starts > PATIENCE:
            raise BrokenRanksError(f"not tried: the ranks broke down {PATIENCE} times before")
        self.starts += 1
        context = get_context("spawn")
        meeting = self.folder / f"meeting-{self.starts}"
        for rank in range(self.ranks):
            here, there = context.Pipe()
            args = (rank, self.ranks, str(meeting), str(self._log(rank)), there)
            worker = context.Process(target=work, args=args, daemon=True)
            worker.start()
            there.close()
            self.workers.append(worker)
            self.pipes.append(here)
        self._collect(START, START)

    def _ask(self, what: Any, limit: float) -> list[Any]:
        message = pickle.dumps(what)
        for pipe in self.pipes:
            pipe.send_bytes(message)
        return self._collect(limit, GRACE)

    def _collect(self, limit: float, grace: float) -> list[Any]:
        """The next message of every worker."""
        results: dict[int, Any] = {}
        end = time.monotonic() + limit
        while len(results) < self.ranks:
            waiting = [p for n, p in enumerate(self.pipes) if n not in results]
            ready = connection.wait(waiting, timeout=max(0.0, end - time.monotonic()))
            if not ready:
                raise BrokenRanksError(self._who_hangs(results))
            for rank in [n for n, p in enumerate(self.pipes) if p in ready]:
                results[rank] = _received(self.pipes[rank])
            end = min(end, time.monotonic() + grace)
        if "died" in results.values():
            raise BrokenRanksError(self._who_hangs(results))
        return [results[rank] for rank in range(self.ranks)]

    def _who_hangs(self, results: dict[int, Any]) -> str:
        """Where the missing ranks are, and what the others said."""
        said = []
        for rank, worker in enumerate(self.workers):
            if rank in results:
                what = getattr(results[rank], "errors", results[rank])
                said.append(f"rank {rank} came back: {what or 'without an error'}")
                continue
            os.kill(worker.pid, signal.SIGUSR1)
            time.sleep(0.3)
            said.append(f"rank {rank} hangs:\n{self._log(rank).read_text()[:2000]}")
        return "\n".join(said)

    def _log(self, rank: int) -> Path:
        return self.folder / f"stack-{self.starts}-{rank}"


def _received(pipe: connection.Connection) -> Any:
    try:
        return pickle.loads(pipe.recv_bytes())
    except EOFError:
        return "died"
