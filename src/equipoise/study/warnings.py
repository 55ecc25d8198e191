"""What a reader of the result must know before believing it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.study.arm_findings import ArmFindings
from equipoise.study.findings import Findings
from equipoise.study.trial import SINGLE_TASK


@dataclass(frozen=True)
class Warning:
    """A warning of the result.

    Attributes:
        id: short name, for machines.
        text: what is the matter and what to do about it.
    """

    id: str
    text: str


def warnings(found: Findings) -> list[Warning]:
    """All warnings that apply."""
    return [Warning(name, text) for name, check in CHECKS.items() for text in check(found)]


def _unfinished(found: Findings) -> Iterator[str]:
    open_arms = [each for each in found.all_arms if not each.choice.complete]
    runs = sum(len(each.missing) for each in found.all_arms)
    if open_arms or runs:
        yield (
            f"The study is not finished: tuning of {len(open_arms)} arms and {runs} final trials are "
            f"missing. The same command goes on where it stopped."
        )


def _failed(found: Findings) -> Iterator[str]:
    for stored in found.stored.values():
        if stored.status == "failed" and stored.trial.stage == "tune":
            yield f"{_who(found, stored.trial.id)} failed: {_last_line(stored.note)}"
    for each in found.all_arms:
        for seed, error in each.failed.items():
            yield f"{each.arm.label}, final trial of seed {seed} failed: {_last_line(error)}"


def _diverged(found: Findings) -> Iterator[str]:
    for each in found.all_arms:
        if each.diverged:
            yield (
                f"{each.arm.label} diverged in {len(each.diverged)} of {len(each.runs)} final trials; "
                f"they are left out of its means, and it is never called better."
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
    still = [label for label, each in found.frozen.items() if not any(each.plan.tried)]
    if still:
        yield f"No weights, or not all positive, that could be frozen: {', '.join(still)}."
    if none:
        yield f"Nothing finished in tuning, so there are no final trials, for: {', '.join(none)}."


def _edge(found: Findings) -> Iterator[str]:
    at: dict[tuple[str, str], list[str]] = defaultdict(list)
    # The best of a few draws is often the lowest or the highest of them.
    for each in found.all_arms if found.spec.how == "grid" else ():
        chosen = each.choice.candidate
        if chosen is None:
            continue
        tried = {"learning rate": [one.learning_rate for one in each.choice.scores]}
        values = {"learning rate": chosen.learning_rate, "weight decay": chosen.weight_decay}
        tried["weight decay"] = [one.weight_decay for one in each.choice.scores]
        for option in each.arm.search:
            given = [one.option(option) for one in each.choice.scores]
            if all(isinstance(value, int | float) for value in given):
                tried[option], values[option] = given, chosen.option(option)
        for name, value in values.items():
            if len(set(tried[name])) > 1 and value in (min(tried[name]), max(tried[name])):
                side = "lowest" if value == min(tried[name]) else "highest"
                at[name, side].append(each.arm.label)
    for (name, side), labels in at.items():
        beyond = "below" if side == "lowest" else "above"
        yield (
            f"The best {name} was the {side} tried for {_some(labels)}: a better one may lie "
            f"{beyond}. Widen what is tried on that side."
        )


def _some(labels: Sequence[str], most: int = 6) -> str:
    """Names, or the first of them and the number of the others."""
    if len(labels) <= most:
        return ", ".join(labels)
    return f"{', '.join(labels[: most - 1])} and {len(labels) - most + 1} others"


def _stand_in(found: Findings) -> Iterator[str]:
    if found.reference != SINGLE_TASK:
        gone = [task for task, each in found.single.items() if not np.isfinite(each.scores).any()]
        yield (
            f"No single-task network of {', '.join(gone)} finished, so Delta_m is taken against equal "
            "weights instead of single-task networks. Widen the learning rates downwards."
        )


def _few_rates(found: Findings) -> Iterator[str]:
    tried = {one.learning_rate for one in found.arm("ew").choice.scores}
    if len(tried) < 3:
        yield (
            f"Only {len(tried)} learning rate(s) were tried for each method; methods "
            f"differ in the scale of their updates, so that a comparison may be one of learning rates."
        )


def _few_seeds(found: Findings) -> Iterator[str]:
    seeds = len(found.spec.seeds)
    if seeds < 5:
        yield f"{seeds} seed(s): intervals are wide or missing. Take at least 5."


def _no_first_loss(found: Findings) -> Iterator[str]:
    none = [task for task, loss in found.problem["first_losses"].items() if abs(loss) < 1e-12]
    if none:
        yield (
            f"The loss of {_some(none)} is 0 before training: weights and temperatures that are sought by "
            f"the size of the first losses mean nothing. Is it the right loss?"
        )


def _near_zero(found: Findings) -> Iterator[str]:
    plain = [
        f"{measure.metric} of {measure.task}"
        for measure, each in zip(found.measures, found.plain, strict=True)
        if each
    ]
    if plain:
        yield (
            f"The single-task networks are at or near zero in {', '.join(plain)}, where a percentage means "
            f"nothing: in Delta_m their changes are plain differences, in the metric's own units. The key "
            "near_zero of the study says up to which size that holds for a metric."
        )


def _noise(found: Findings) -> Iterator[str]:
    equal = found.arm("ew")
    inside = []
    for each in found.arms:
        gap = each.against.get("ew")
        spread = _spread(each), _spread(equal)
        if gap and gap.runs > 1 and all(map(np.isfinite, spread)) and abs(gap.value) < max(spread):
            inside.append(each.arm.label)
    if inside:
        yield (
            f"The difference to ew is smaller than the spread between seeds for {', '.join(inside)}: "
            f"two single runs with different seeds could have shown either sign."
        )


def _spread(each: ArmFindings) -> float:
    finite = each.deltas[np.isfinite(each.deltas)]
    return float(finite.std(ddof=1)) if len(finite) > 1 else float("nan")


def _budgets(found: Findings) -> Iterator[str]:
    sizes = {e.arm.label: e.arm.space.size for e in found.all_arms if not e.arm.frozen}
    usual = sizes["ew"]
    more = ", ".join(f"{label} {size}" for label, size in sizes.items() if size != usual)
    if more:
        yield (
            f"Tuning budgets differ: {usual} candidates for most arms, and for {more}. More candidates find "
            f"better settings by chance."
        )
    samples = {each.arm.label: each.spent.samples for each in found.arms if each.spent}
    if len(set(samples.values())) > 1:
        yield f"Methods saw different numbers of examples: {samples}."


def _untuned(found: Findings) -> Iterator[str]:
    left = []
    for each in found.arms:
        option = TUNED_BY_PAPER.get(each.arm.method)
        if option is not None and option not in {*each.arm.search, *each.arm.options}:
            left.append(f"{option} of {each.arm.label}")
    if left:
        yield f"Left at its default although its paper tunes it for each problem: {', '.join(left)}."


def _one_rate(found: Findings) -> Iterator[str]:
    """Methods that spent their trials on an option of their own instead of the learning rate."""
    for each in found.arms:
        rates = {one.learning_rate for one in each.choice.scores}
        lowest, highest = found.spec.rate_span()
        if len(rates) == 1 and lowest < highest and each.arm.search:
            yield (
                f"The learning rate of {each.arm.label} was not tuned: its trials, as many as those of the "
                f"others, went to {' and '.join(each.arm.search)} at {rates.pop():g}."
            )


def _pairing(found: Findings) -> Iterator[str]:
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


def _versions(found: Findings) -> Iterator[str]:
    if len(found.environments) > 1:
        yield (
            f"Trials ran in {len(found.environments)} different environments (listed below); times and "
            f"last digits may differ between them."
        )


def _crowded(found: Findings) -> Iterator[str]:
    """More computing threads than cores: steps wait for each other, those of gradient methods longest."""
    for facts in found.environments.values():
        workers, cores = facts.get("workers"), facts.get("cores")
        if workers and cores and workers * facts.get("threads", 1) > cores:
            yield (
                f"{workers} workers of {facts.get('threads', 1)} thread(s) shared {cores} cores: times of "
                f"steps are not comparable between methods. Take at most {cores} workers to compare them."
            )


def _sgd(found: Findings) -> Iterator[str]:
    spec = found.spec
    tasks = len(found.single)
    lowest, highest = spec.rate_span()
    narrow = highest < tasks * lowest
    if spec.optimizer == "sgd" and spec.weight_sum == "paper" and narrow:
        yield (
            f"Under SGD the sum of the weights is a factor of the learning rate, and papers differ in "
            f"it by a factor of {tasks}; the learning rates tried span less. Widen them, or set "
            f'weight_sum = "tasks".'
        )


def _who(found: Findings, trial: str) -> str:
    stored = found.stored[trial].trial
    name = f"single-task {stored.task}" if stored.method == SINGLE_TASK else stored.method
    return f"{name}, {'tuning' if stored.stage == 'tune' else 'final'} trial at {stored.learning_rate:g}"


def _last_line(error: str) -> str:
    lines = error.strip().splitlines()
    return lines[-1] if lines else "no message"


# Options that the method's own paper chooses on validation for each problem.
TUNED_BY_PAPER: Mapping[str, str] = {"uw_so": "temperature"}

CHECKS: Mapping[str, Callable[[Findings], Iterator[str]]] = {
    "unfinished": _unfinished,
    "failed": _failed,
    "diverged": _diverged,
    "stand-in": _stand_in,
    "edge": _edge,
    "few-rates": _few_rates,
    "few-seeds": _few_seeds,
    "near-zero": _near_zero,
    "first-loss": _no_first_loss,
    "noise": _noise,
    "budgets": _budgets,
    "untuned": _untuned,
    "one-rate": _one_rate,
    "pairing": _pairing,
    "sgd": _sgd,
    "crowded": _crowded,
    "environments": _versions,
}
