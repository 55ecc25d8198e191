"""A group of worker processes that train cases together, and outlives a case that hangs."""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import time
import traceback
from contextlib import suppress
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


def lead(meeting: str, logs: list[str], pipes: list[Any]) -> None:
    """Imports once what all ranks need, forks the others, and is the first of them itself."""
    import torch._dynamo  # noqa: F401 (optimisers import it, which takes longer than many a case)

    os.setpgid(0, 0)  # by which all ranks can be killed at once
    ranks = len(pipes)
    rank = next((n for n in range(1, ranks) if os.fork() == 0), 0)
    for other, pipe in enumerate(pipes):
        # A rank that died is seen by the end of its pipe, if nobody else holds it.
        if other != rank:
            pipe.close()
    try:
        work(rank, ranks, meeting, logs[rank], pipes[rank])
    except Exception:  # noqa: BLE001 (the process ends here, and does not return to what it was forked from)
        traceback.print_exc()
    finally:
        os._exit(1)


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
        pipe.send_bytes(pickle.dumps(os.getpid()))
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
    """Starts its workers, and starts them again after a case that hung or left them out of step.

    Args:
        ranks: number of workers.
        folder: for the files by which they meet.
    """

    def __init__(self, ranks: int, folder: Path) -> None:
        self.ranks, self.folder = ranks, folder
        self.starts = 0
        self.known: dict[str, list[Outcome] | BrokenRanksError] = {}
        self.leader: Any = None
        self.pids: list[int] = []
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
        if self.leader is None:
            self.start()
        if not self.pids:
            self.pids = self._collect(START, START)
        outcomes: list[Outcome] = self._ask(case, LIMIT)
        if len({tuple(step for step, _ in o.errors) for o in outcomes}) > 1:
            # Some raised and some did not: what they have sent each other no longer matches.
            self.stop()
        elif self._ask(self.starts, LIMIT) != [self.starts * self.ranks] * self.ranks:
            raise BrokenRanksError("somebody took part in one collective too few")
        return outcomes

    def stop(self) -> None:
        """Ends the workers."""
        if self.leader is not None:
            self.leader.kill()
            with suppress(ProcessLookupError):
                os.killpg(self.leader.pid, signal.SIGKILL)
            self.leader.join()
        for pipe in self.pipes:
            pipe.close()
        self.leader, self.pids, self.pipes = None, [], []

    def start(self) -> None:
        """Lets the workers begin; the first case waits for them."""
        if self.starts > PATIENCE:
            raise BrokenRanksError(f"not tried: the ranks broke down {PATIENCE} times before")
        self.starts += 1
        context = get_context("spawn")
        meeting = self.folder / f"meeting-{self.starts}"
        self.pipes, theirs = map(
            list, zip(*(context.Pipe() for _ in range(self.ranks)), strict=True)
        )
        logs = [str(self._log(rank)) for rank in range(self.ranks)]
        self.leader = context.Process(target=lead, args=(str(meeting), logs, theirs), daemon=True)
        self.leader.start()
        for pipe in theirs:
            pipe.close()

    def _ask(self, what: Any, limit: float) -> list[Any]:
        message = pickle.dumps(what)
        for pipe in self.pipes:
            with suppress(BrokenPipeError):  # its end is read where the answers are
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
        for rank in range(self.ranks):
            if rank in results:
                what = getattr(results[rank], "errors", results[rank])
                said.append(f"rank {rank} came back: {what or 'without an error'}")
                continue
            if not self.pids:
                said.append(f"rank {rank} did not start")
                continue
            os.kill(self.pids[rank], signal.SIGUSR1)
            time.sleep(0.3)
            said.append(f"rank {rank} hangs:\n{self._log(rank).read_text()[:2000]}")
        return "\n".join(said)

    def _log(self, rank: int) -> Path:
        return self.folder / f"stack-{self.starts}-{rank}"


def _received(pipe: connection.Connection) -> Any:
    try:
        return pickle.loads(pipe.recv_bytes())
    except (EOFError, ConnectionResetError):
        return "died"
