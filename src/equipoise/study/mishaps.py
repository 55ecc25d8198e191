"""Warnings of what happened to single runs: they failed, diverged, were no pairs, or disturbed each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from equipoise.study.findings import Findings
from equipoise.study.trial import SINGLE_TASK
from equipoise.study.words import counted


def failed(found: Findings) -> Iterator[str]:
    """Trials that gave no result."""
    for stored in found.stored.values():
        if stored.status == "failed" and stored.trial.stage == "tune":
            yield f"{_who(found, stored.trial.id)} failed: {_last_line(stored.note)}"
    for each in found.all_arms:
        for seed, error in each.failed.items():
            yield f"{each.arm.label}, final trial of seed {seed} failed: {_last_line(error)}"


def diverged(found: Findings) -> Iterator[str]:
    """Runs and settings that left the finite numbers, and arms of which nothing is left."""
    for each in found.all_arms:
        if each.diverged:
            out = "that one is" if len(each.diverged) == 1 else "they are"
            yield (
                f"{each.arm.label} diverged in {len(each.diverged)} of "
                f"{counted(len(each.runs), 'final trial')}; {out} left out of its means, and it is never "
                f"called better."
            )
    lost = defaultdict(list)
    for each in found.all_arms:
        for tried in each.plan.tried:
            for candidate, trials in tried.items():
                stored = [found.stored[trial.id] for trial in trials if trial.id in found.stored]
                if any(one.status in ("diverged", "failed") for one in stored):
                    lost[each.arm.label].append(f"{candidate.learning_rate:g}")
    if lost:
        named = "; ".join(f"{k} at {', '.join(dict.fromkeys(v))}" for k, v in lost.items())
        yield f"Tuning trials that diverged or failed were not chosen: {named}."
    none = [
        each.arm.label
        for each in found.all_arms
        if each.choice.complete and each.choice.candidate is None and any(each.plan.tried)
    ]
    # Before a method has chosen, there is nothing to freeze.
    still = [
        label
        for label, each in found.frozen.items()
        if found.arm(label).choice.complete and not any(each.plan.tried)
    ]
    if still:
        yield f"No weights, or not all positive, that could be frozen: {', '.join(still)}."
    if none:
        yield f"Nothing finished in tuning, so there are no final trials, for: {', '.join(none)}."


def kept(found: Findings) -> Iterator[str]:
    """Trials from before and after a change, which ``--keep`` let stand side by side."""
    if found.kept:
        yield (
            f"Trials from before and after a change are compared as if there were none (--keep): "
            f"{'; '.join(found.kept)}. A store of its own tells whether that matters."
        )


def pairing(found: Findings) -> Iterator[str]:
    """Checks on what was measured that runs of a seed really shared their start and their batches."""
    for seed in found.spec.seeds:
        stored = [
            found.stored[trial.id]
            for each in found.arms
            for trial in each.runs
            if trial.seed == seed and found.found.finished(trial)
        ]
        if len({each.initial for each in stored}) > 1:
            yield f"Runs of seed {seed} did not start from the same weights: pairs are not pairs."
        if len({each.order for each in stored}) > 1:
            yield f"Runs of seed {seed} did not see the same batches: pairs are not pairs."


def versions(found: Findings) -> Iterator[str]:
    """Trials that ran in more than one environment."""
    if len(found.environments) > 1:
        yield (
            f"Trials ran in {len(found.environments)} different environments (listed below); times and "
            f"last digits may differ between them."
        )


def crowded(found: Findings) -> Iterator[str]:
    """More computing threads than cores: steps wait for each other, those of gradient methods longest."""
    for facts in found.environments.values():
        workers, cores = facts.get("workers"), facts.get("cores")
        if workers and cores and workers * facts.get("threads", 1) > cores:
            yield (
                f"{counted(workers, 'worker')} of {counted(facts.get('threads', 1), 'thread')} shared "
                f"{counted(cores, 'core')}: times of steps are not comparable between methods. Take at most "
                f"{counted(cores, 'worker')} to compare them."
            )


def _who(found: Findings, trial: str) -> str:
    stored = found.stored[trial].trial
    name = f"single-task {stored.task}" if stored.method == SINGLE_TASK else stored.method
    return f"{name}, {'tuning' if stored.stage == 'tune' else 'final'} trial at {stored.learning_rate:g}"


def _last_line(error: str) -> str:
    lines = error.strip().splitlines()
    return lines[-1] if lines else "no message"
