"""What ``suggest`` and ``Monitor`` say of a problem, beside what a study of it found.

    python benchmarks/advice.py NAME... [--stores runs/NAME.db ...] [--seeds 8] [--steps 30] [--every 10]

For each problem, at the settings of the study in the store, or of its preset ``quick``: ``suggest`` sees the
network as it starts and the first eight training batches, once with its own learning rate and once with the
middle one of the study. Then the network is trained as the study trains it, with equal weights, under a
``Monitor``. Networks and the order of batches are those of seeds 0, 1, ...: ``suggest`` is asked for each,
what it says of seed 0 is printed whole, and the monitor watches seed 0 only.

With a store, the differences in Delta_m that the study found between every arm and equal weights, and between
it and tuned fixed weights, follow, and the study's verdict.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

import torch
from torch import nn

from equipoise import Balancer, Monitor, suggest
from equipoise.diagnosis.suggestion import Suggestion
from equipoise.problems import Batch, Problem, problem
from equipoise.study import Findings, Spec, Store, findings, headline, sentence, study


def network(built: Problem, spec: Spec, seed: int) -> nn.Module:
    """The network that trials of the study start from with this seed."""
    torch.manual_seed(seed)
    return built.network(list(built.by_name)).to(spec.device)


def batches(built: Problem, spec: Spec, seed: int, epochs: int) -> Iterator[Batch]:
    """Those that the study trains on, in its order."""
    source = built.source("train")
    for epoch in range(1, epochs + 1):
        for batch in source.batches(spec.batch_size, 1_000_003 * seed + epoch):
            yield batch.to(spec.device)


def suggested(built: Problem, spec: Spec, seed: int, rate: float, steps: int) -> Suggestion:
    model = network(built, spec, seed)
    given = batches(built, spec, seed, 1)
    names = list(built.by_name)
    return suggest(model, built.losses_of, given, tasks=names, steps=steps, learning_rate=rate)


def watched(built: Problem, spec: Spec, seed: int, rate: float, every: int) -> Monitor:
    """A run with equal weights under a monitor."""
    model = network(built, spec, seed).train()
    balancer = Balancer("ew", tasks=list(built.by_name))
    monitor = Monitor(balancer, every=every)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=spec.weight_decay)
    steps = spec.epochs * built.source("train").steps(spec.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for batch in islice(batches(built, spec, seed, spec.epochs), steps):
        losses = dict(built.losses_of(model, batch))
        monitor(losses)
        balancer(losses).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return monitor


def told(name: str, spec: Spec, found: Findings | None, seeds: int, steps: int, every: int) -> None:
    """Prints it all for a problem."""
    built = problem(spec.problem, **spec.problem_options)
    rates = sorted(spec.learning_rates)  # type: ignore[arg-type]
    middle = rates[len(rates) // 2]
    print(
        f"\n=== {name}: {len(built.tasks)} tasks, {spec.epochs} epochs, batches of {spec.batch_size}"
    )
    kinds: Counter[str] = Counter()
    for rate in dict.fromkeys((1e-3, middle)):
        every_one = [suggested(built, spec, seed, rate, steps) for seed in range(seeds)]
        kinds = Counter(each.method for each in every_one)
        print(f"\n--- suggest, learning rate {rate:g}, seed 0\n{every_one[0]}")
        listed = ", ".join(f"{method} {count}" for method, count in kinds.most_common())
        print(f"--- suggested over {seeds} seeds: {listed}")
    monitor = watched(built, spec, 0, middle, every)
    print(f"\n--- Monitor, equal weights, learning rate {middle:g}, seed 0\n{monitor}")
    if found is not None:
        print(f"\n--- the study, learning rates {rates}")
        for baseline in ("ew", *(label for label in found.baselines if label != "ew")):
            for arm in found.arms:
                if baseline in arm.against:
                    mark = "*" if arm.arm.method in kinds else " "
                    print(f"{mark} {sentence(arm, baseline).text}")
        print("* suggested at that learning rate")
        print("\n".join(each.text for each in headline(found)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--stores", nargs="*", default=[], help="of the studies, in the same order")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30, help="that suggest takes")
    parser.add_argument("--every", type=int, default=10, help="steps from one look to the next")
    asked = parser.parse_args()
    if asked.stores and len(asked.stores) != len(asked.names):
        parser.error(f"{len(asked.names)} problems and {len(asked.stores)} stores")
    torch.set_num_threads(1)
    with ExitStack() as opened:
        for number, name in enumerate(asked.names):
            spec, found = study(name, "quick"), None
            if asked.stores:
                store = opened.enter_context(Store(asked.stores[number], read_only=True))
                found = findings(store)
                spec = found.spec
            told(name, spec, found, asked.seeds, asked.steps, asked.every)


if __name__ == "__main__":
    main()
