"""What a training step costs, engine by engine, against the plain sum: time and peak memory.

All engines run in one process and take turns: a block of plain steps, a block of the engine's, so that a
busy machine slows both. The ratio is the median over the rounds, with the lowest and highest; that of the
plain sum to itself tells the machine's noise. Before anything is timed, each engine takes a step from the
same weights, and the gradients of the trunk are compared with ours: an engine that computes something else
is not timed. TorchJD and LibMTL take part where they can be imported.

    python benchmarks/steps.py --workloads tiny_mlp --methods ew mgda --rounds 7
    python benchmarks/steps.py --json docs/speed.json
    python benchmarks/steps.py --profile mgda --route parameters --workloads tiny_mlp
"""

from __future__ import annotations

import argparse
import copy
import datetime
import importlib.metadata
import json
import os
import platform
import random
import shlex
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Before torch is imported. Threads that spin while they wait for each other lose their cores to other
# processes: on a busy machine a step of less than a millisecond then takes a hundred.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# The profiler tells of every start and stop.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch

import engines
import equipoise
from engines import Step
from memory import peak
from workloads import WORKLOADS, Workload, build

# Seconds that a block of steps should take, long against the clock and short against a busy spell.
BLOCK = 0.2

METHODS = (
    *("ew", "uw_so", "famo"),
    *("mgda", "upgrad", "cagrad", "pcgrad", "imtl_g", "aligned_mtl"),
)

# How far, relative to its length, the trunk's gradient may lie from ours. Solvers that stop early differ by a
# few per cent (CAGrad of LibMTL: 5), another definition of a method by far more. TorchJD's MGDA stops after
# 100 iterations of Frank-Wolfe: with forty tasks it is 19 per cent off, after 1000 iterations 4.
TOLERANCE, TOLERANCES = 0.1, {"mgda": 0.3}

# They project on the other tasks in random order, which is of no matter for two tasks: these are compared.
SHUFFLED = ("pcgrad", "gradvac")

# What an engine raises where it cannot take part: a solver is missing, a method does not take the tasks.
REFUSALS = (ImportError, ValueError, RuntimeError)


def timed(step: Step, count: int, device: str) -> float:
    """Seconds per step."""
    start = time.perf_counter()
    for _ in range(count):
        step()
    if device != "cpu":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / count


def gradient(work: Workload, method: str, engine: str) -> torch.Tensor:
    """What one step leaves in the trunk."""
    own = copy.deepcopy(work)
    torch.manual_seed(0)
    random.seed(0)
    engines.stepper(own, method, engine)()
    return torch.cat([p.grad.flatten() for p in own.trunk.parameters()]).double()


def check(work: Workload, method: str, chosen: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How far each engine's gradient lies from that of ``parameters``, or why the engine is not timed.

    On the losses route there is nothing to compare with, and at the features it is a variant's gradient.
    """
    found: dict[str, dict[str, Any]] = {}
    want = None
    for engine in sorted(chosen, key=lambda name: name != "parameters"):
        try:
            got = gradient(work, method, engine)
            if engine in ("losses", "features"):
                continue
            want = gradient(work, method, "parameters") if want is None else want
        except REFUSALS as error:
            found[engine] = {"refused": f"{type(error).__name__}: {error}".splitlines()[0]}
            continue
        off = float((got - want).norm() / want.norm())
        found[engine] = {"difference": off}
        if not off <= TOLERANCES.get(method, TOLERANCE):
            found[engine]["refused"] = f"it computes something else: {off:.0%} off"
    return found


def race(
    plain: Step, steps: Mapping[str, Step], rounds: int, block: float, device: str
) -> dict[str, dict[str, float]]:
    """The ratio of each step to the plain one."""
    counts: dict[str, int] = {}
    for engine, step in (("", plain), *steps.items()):
        timed(step, 2, device)
        counts[engine] = max(1, round(block / timed(step, 2, device)))
    seconds: dict[str, list[tuple[float, float]]] = {engine: [] for engine in steps}
    for _ in range(rounds):
        for engine, step in steps.items():
            # One step each that is not counted: the caches hold what the other left.
            timed(plain, 1, device)
            base = timed(plain, counts[""], device)
            timed(step, 1, device)
            seconds[engine].append((timed(step, counts[engine], device), base))
    return {engine: _summary(pairs) for engine, pairs in seconds.items()}


def _summary(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    ratios = [own / base for own, base in pairs]
    return {
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "milliseconds": statistics.median(own for own, _ in pairs) * 1e3,
    }


def compare(
    work: Workload, method: str | None, wanted: Sequence[str], args: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for each engine of a method; the plain sum against itself where there is no method."""
    names = ["plain"] if method is None else engines.engines_of(method)
    chosen = [name for name in names if name in wanted]
    at = {"workload": work.name, "tasks": len(work.heads), "method": method}
    rows: dict[str, dict[str, Any]] = {name: {**at, "engine": name} for name in chosen}
    if method is not None:
        judged = build(work.name, 2, args.device) if method in SHUFFLED else work
        for name, verdict in check(judged, method, chosen).items():
            rows[name].update(verdict)
    runs = [name for name in chosen if "refused" not in rows[name]]
    steps = {name: engines.stepper(copy.deepcopy(work), method, name) for name in runs}
    plain = engines.stepper(copy.deepcopy(work), None, "plain")
    for name, numbers in race(plain, steps, args.rounds, args.block, args.device).items():
        own = copy.deepcopy(work)
        mib = peak(lambda name=name, own=own: engines.stepper(own, method, name), args.device)
        rows[name].update(numbers, mib=mib)
    peers = [name for name in runs if name in engines.TORCHJD]
    if peers:
        rows[min(peers, key=lambda name: rows[name]["ratio"])]["best"] = True
    return list(rows.values())


def line(row: Mapping[str, Any]) -> str:
    """A row as it is printed."""
    text = f"{row['workload']:<12}{row['method'] or 'sum':<14}{row['engine']:<16}"
    if "refused" in row:
        return f"{text}not timed: {row['refused']}"
    span = f"({row['low']:.2f}-{row['high']:.2f})"
    off = f"{row['difference']:.0e}" if "difference" in row else ""
    mark = "  TorchJD's best" if row.get("best") else ""
    return (
        f"{text}{row['ratio']:>7.2f} {span:<14}{row['milliseconds']:>9.2f}{row['mib']:>9.2f}"
        f"{off:>7}{mark}"
    )


def processor(device: str) -> str:
    """The model of the processor, and of the GPU where one is used."""
    info = Path("/proc/cpuinfo")
    model = platform.processor() or platform.machine()
    if info.exists():
        for entry in info.read_text(encoding="utf-8").splitlines():
            if entry.startswith("model name"):
                model = entry.partition(":")[2].strip()
                break
    return model if device == "cpu" else f"{torch.cuda.get_device_name()}, {model}"


def version(package: str) -> str:
    """Of an installed package; a checkout on the path has none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "a checkout"


def surroundings(args: argparse.Namespace, given: Sequence[str]) -> dict[str, Any]:
    """Machine, versions, date and command: what a reader of the numbers must know."""
    missing = engines.absent()
    peers = [name for name in ("torchjd", "libmtl") if name not in missing]
    return {
        "machine": processor(args.device),
        "cores": os.cpu_count(),
        "threads": args.threads,
        "device": args.device,
        "versions": {
            "torch": torch.__version__,
            "equipoise": equipoise.__version__,
            **{name: version(name) for name in peers},
        },
        "absent": missing,
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "command": shlex.join(["python", "benchmarks/steps.py", *given]),
        "rounds": args.rounds,
        "block": args.block,
    }


def profile(work: Workload, method: str, route: str, device: str) -> None:
    """Prints where a step's time goes, in Python and in torch."""
    import cProfile
    import pstats

    step = engines.stepper(work, method, route)
    timed(step, 20, device)
    with torch.profiler.profile() as torch_profile:
        timed(step, 20, device)
    print(torch_profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=15))
    python = cProfile.Profile()
    python.enable()
    timed(step, 200 if work.name == "tiny_mlp" else 10, device)
    python.disable()
    pstats.Stats(python).sort_stats("tottime").print_stats(20)


def main(given: Sequence[str] | None = None) -> None:
    """Measures and prints a table."""
    known = [card.id for card in equipoise.methods()]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--workloads", nargs="+", default=list(WORKLOADS), choices=WORKLOADS)
    add("--methods", nargs="+", default=METHODS, choices=known, metavar="METHOD")
    add("--engines", nargs="+", default=engines.ENGINES, choices=engines.ENGINES)
    add("--tasks", type=int, help="heads; default: those of the workload")
    add("--rounds", type=int, default=7)
    add("--block", type=float, default=BLOCK, help="seconds of steps that are timed in a row")
    add("--threads", type=int, default=torch.get_num_threads())
    add("--device", default="cpu")
    add("--json", type=Path, help="write the numbers here; docs/speed.json is what the page shows")
    add("--profile", metavar="METHOD", choices=known, help="profile one method instead")
    add("--route", default="parameters", choices=engines.ENGINES[1:], help="engine to profile")
    given = sys.argv[1:] if given is None else given
    args = parser.parse_args(given)
    torch.set_num_threads(args.threads)
    if args.profile:
        for name in args.workloads:
            profile(build(name, args.tasks, args.device), args.profile, args.route, args.device)
        return
    about = surroundings(args, given)
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    print(f"{about['machine']}, {about['cores']} cores, {args.threads} threads; {versions}")
    for why in about["absent"].values():
        print(why)
    print(
        f"ratio to the plain sum: median of {args.rounds} rounds (lowest-highest)\n"
        "MiB: peak of tensors, without parameters and batch\n"
        "off: distance of the trunk's gradient from ours, relative\n"
        f"{'workload':<12}{'method':<14}{'engine':<16}{'ratio':>7} {'':<14}{'ms':>9}{'MiB':>9}{'off':>7}"
    )
    peers = {"torchjd": tuple(engines.TORCHJD), "libmtl": ("libmtl",)}
    out = {engine for name in about["absent"] for engine in peers[name]}
    wanted = [engine for engine in args.engines if engine not in out]
    rows = []
    for name in args.workloads:
        work = build(name, args.tasks, args.device)
        for method in (None, *args.methods):
            for row in compare(work, method, wanted, args):
                rows.append(row)
                print(line(row), flush=True)
        if args.json:
            # After every workload: a run takes long, and may be stopped.
            args.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
