"""Milliseconds of a training step, method by method and route by route, against the plain sum.

Every pair is measured in one process, a block of plain steps and a block of balanced steps in turn, so that
a busy machine slows both. The ratio is the median over the rounds.

    python benchmarks/steps.py --workloads tiny_mlp --methods ew mgda --rounds 7
    python benchmarks/steps.py --profile mgda --route parameters --workloads tiny_mlp
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import equipoise
from workloads import WORKLOADS, Workload, build

# Seconds that a block of steps should take, long against the clock and short against a busy spell.
BLOCK = 0.25


def routes_of(needs: str) -> list[str]:
    """The ways a method can be called."""
    if needs == "losses":
        return ["losses"]
    if needs in ("gramian", "jacobian"):
        return ["features", "parameters", "parameters.backward"]
    return []


def stepper(work: Workload, method: str | None, route: str) -> Callable[[], None]:
    """One training step; ``method`` None is the plain sum."""
    optimizer = torch.optim.SGD(work.parameters(), lr=1e-4)
    balancer = None
    if method is not None:
        balancer = equipoise.Balancer(method, list(work.heads))
        if groups := balancer.param_groups(lr=1e-4):
            for group in groups:
                optimizer.add_param_group(group)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        features = work.trunk(work.batch)
        if balancer is not None and route == "features":
            views = balancer.share(features)
        else:
            views = dict.fromkeys(work.heads, features)
        losses = work.losses(views)
        if balancer is None:
            torch.autograd.backward(sum(losses.values(), start=features.new_zeros(())))
        elif route == "parameters.backward":
            balancer.backward(losses)
        else:
            torch.autograd.backward(balancer(losses))
        optimizer.step()

    return step


def timed(step: Callable[[], None], count: int, device: str) -> float:
    """Seconds per step."""
    start = time.perf_counter()
    for _ in range(count):
        step()
    if device != "cpu":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / count


def measure(work: Workload, method: str, route: str, rounds: int, device: str) -> dict[str, float]:
    """The ratio of a method's step to the plain one."""
    plain, balanced = stepper(work, None, ""), stepper(work, method, route)
    for step in (plain, balanced):
        timed(step, 3, device)
    count = max(1, int(BLOCK / timed(plain, 3, device)))
    ratios, milliseconds = [], []
    for _ in range(rounds):
        base = timed(plain, count, device)
        own = timed(balanced, count, device)
        ratios.append(own / base)
        milliseconds.append(own * 1e3)
    return {
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "milliseconds": statistics.median(milliseconds),
    }


def profile(work: Workload, method: str, route: str, device: str) -> None:
    """Prints where a step's time goes, in Python and in torch."""
    import cProfile
    import pstats

    step = stepper(work, method, route)
    timed(step, 20, device)
    with torch.profiler.profile() as torch_profile:
        timed(step, 20, device)
    print(torch_profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=15))
    python = cProfile.Profile()
    python.enable()
    timed(step, 200 if work.name == "tiny_mlp" else 10, device)
    python.disable()
    pstats.Stats(python).sort_stats("tottime").print_stats(20)


def main() -> None:
    """Measures and prints a table."""
    cards = equipoise.methods()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=WORKLOADS)
    parser.add_argument("--methods", nargs="+", default=[card.id for card in cards])
    parser.add_argument("--tasks", type=int, help="heads; default: those of the workload")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--profile", metavar="METHOD", help="profile one method instead")
    parser.add_argument("--route", default="parameters", help="route to profile")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"torch {torch.__version__}, {args.threads} threads, {args.device}; "
        f"ratio to the plain sum, median of {args.rounds} rounds (lowest-highest)"
    )
    rows = []
    for name in args.workloads:
        work = build(name, args.tasks, args.device)
        if args.profile:
            profile(work, args.profile, args.route, args.device)
            continue
        for method in args.methods:
            for route in routes_of(equipoise.method(method).needs):
                got = measure(work, method, route, args.rounds, args.device)
                rows.append({"workload": name, "method": method, "route": route, **got})
                print(
                    f"{name:12s} {method:16s} {route:20s} {got['ratio']:6.2f} "
                    f"({got['low']:.2f}-{got['high']:.2f})  {got['milliseconds']:9.2f} ms",
                    flush=True,
                )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
