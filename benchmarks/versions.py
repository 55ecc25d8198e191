"""Two checkouts of the package beside each other in one process: a step's time, new over old.

    python benchmarks/versions.py ../old --workloads tiny_mlp --methods ew mgda --rounds 9

The blocks of steps alternate, so that a busy machine slows both; the ratio is the median over the rounds. CPU
seconds of the process are counted, which other jobs disturb least; ``--wall`` counts seconds on the wall.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch

import engines
from workloads import WORKLOADS, Workload, build

BLOCK = 0.1


class Version:
    """One checkout's modules, put in place while its code runs (both import lazily)."""

    def __init__(self, source: Path) -> None:
        self.modules: dict[str, ModuleType] = {}
        sys.path.insert(0, str(source))
        with self:
            self.package = importlib.import_module("equipoise")
        self.source = source

    def __enter__(self) -> Version:
        for name in [name for name in sys.modules if name.split(".")[0] == "equipoise"]:
            del sys.modules[name]
        sys.modules.update(self.modules)
        importlib.invalidate_caches()
        return self

    def __exit__(self, *_: object) -> None:
        self.modules = {n: m for n, m in sys.modules.items() if n.split(".")[0] == "equipoise"}


def stepper(version: Version, work: Workload, method: str, route: str) -> Callable[[], None]:
    """A training step of one version, warmed up."""
    engines.equipoise = version.package  # type: ignore[attr-defined]
    sys.path[0] = str(version.source)
    with version:
        step = engines.stepper(work, method, route)
        for _ in range(8):
            step()
    return step


def measure(
    versions: tuple[Version, Version],
    pair: list[Callable[[], None]],
    rounds: int,
    clock: Callable[[], float],
) -> tuple[list[float], float]:
    """New over old, a ratio a round; and the median of the differences in microseconds."""

    def timed(which: int, count: int) -> float:
        start = clock()
        for _ in range(count):
            pair[which]()
        return (clock() - start) / count

    with versions[0]:
        count = max(1, int(BLOCK / timed(0, 3)))
    ratios, differences = [], []
    for number in range(rounds):
        seconds = [0.0, 0.0]
        for which in ((0, 1), (1, 0))[number % 2]:
            with versions[which]:
                timed(which, 1)
                seconds[which] = timed(which, count)
        ratios.append(seconds[1] / seconds[0])
        differences.append((seconds[1] - seconds[0]) * 1e6)
    return ratios, statistics.median(differences)


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="folder of the other checkout")
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=WORKLOADS)
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--routes", nargs="+")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tasks", type=int, help="heads; default: those of the workload")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wall", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.perf_counter if args.wall else time.process_time
    versions = Version(args.old / "src"), Version(Path(__file__).parent.parent / "src")
    with versions[0] as old:
        ids = [card.id for card in old.package.methods()]
        known = {name: engines.routes_of(old.package.method(name)) for name in ids}
    for name in args.workloads:
        work = build(name, args.tasks, "cpu")
        for method in args.methods or known:
            for route in known[method]:
                if args.routes and route not in args.routes:
                    continue
                pair = [stepper(version, work, method, route) for version in versions]
                ratios, difference = measure(versions, pair, args.rounds, clock)
                print(
                    f"{name:12s} {method:16s} {route:20s} {statistics.median(ratios):5.2f} "
                    f"({min(ratios):.2f}-{max(ratios):.2f}) {difference:+8.0f} us",
                    flush=True,
                )


if __name__ == "__main__":
    main()
