"""What a reader of the result must know before believing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from equipoise.study import mishaps
from equipoise.study.arm_findings import ArmFindings
from equipoise.study.ends import ends
from equipoise.study.findings import Findings
from equipoise.study.missing import missing
from equipoise.study.trial import SINGLE_TASK
from equipoise.study.words import counted, some


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
    """All warnings that apply; before a study is finished those that the rest of it cannot change."""
    later = () if missing(found) is None else MAY_CHANGE
    told = [(name, check) for name, check in CHECKS.items() if name not in later]
    return [Warning(name, text) for name, check in told for text in check(found)]


def _unfinished(found: Findings) -> Iterator[str]:
    left = missing(found)
    if left is not None:
        yield f"{left.text} The same command goes on where it stopped."


def _edge(found: Findings) -> Iterator[str]:
    for each in ends(found):
        beyond = "below" if each.side == "lowest" else "above"
        where = f"was the {each.side} tried"
        if each.drawn:
            side = "lower" if each.side == "lowest" else "upper"
            where = (
                f"lay at the {side} edge of its range, {each.limits[0]:g} to {each.limits[1]:g},"
            )
        yield (
            f"The best {each.name} {where} for {some(each.labels)}: a better one may lie "
            f"{beyond}. Widen what is tried on that side."
        )


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
            f"Only {counted(len(tried), 'learning rate')} {'was' if len(tried) == 1 else 'were'} tried for "
            f"each method; methods differ in the scale of their updates, so that a comparison may be one "
            f"of learning rates."
        )


def _few_seeds(found: Findings) -> Iterator[str]:
    seeds = len(found.spec.seeds)
    if seeds < 5:
        yield f"{counted(seeds, 'seed')} only: intervals are wide or missing. Take at least 5."


def _no_first_loss(found: Findings) -> Iterator[str]:
    none = [task for task, loss in found.problem["first_losses"].items() if abs(loss) < 1e-12]
    if none:
        yield (
            f"The loss of {some(none)} is 0 before training: weights and temperatures that are sought by "
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
            f"The single-task networks are too near zero, for how far their runs lie apart, for a percentage "
            f"to mean anything in {', '.join(plain)}: in Delta_m their changes are plain differences, in the "
            "metric's own units. The key near_zero of the study says up to which size that holds."
        )


def _noise(found: Findings) -> Iterator[str]:
    equal = found.arm("ew")
    inside = []
    for each in found.arms:
        gap = each.against.get("ew")
        spread = _spread(each), _spread(equal)
        # Runs that are those of equal weights differ from nothing.
        same = bool(np.array_equal(each.deltas, equal.deltas, equal_nan=True))
        known = gap and gap.runs > 1 and all(map(np.isfinite, spread)) and not same
        if gap and known and abs(gap.value) < max(spread):
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
    more = [f"{label} {size}" for label, size in sizes.items() if size != usual]
    if more:
        yield (
            f"Tuning budgets differ: candidates were {', '.join(more)}, and {usual} for each of the others. "
            f"More candidates find better settings by chance."
        )
    samples = {each.arm.label: each.spent.samples for each in found.arms if each.spent}
    if len(set(samples.values())) > 1:
        told = ", ".join(f"{label} {count:,}" for label, count in samples.items())
        yield f"Methods saw different numbers of examples: {told}."


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


def _gates(found: Findings) -> Iterator[str]:
    if found.gate and len(found.baselines) > 1:
        yield (
            f"Baselines are met in their order, {', '.join(found.baselines)}: nothing is said of a later one "
            f"before a difference to the earlier ones is shown. That holds its level only if it was decided "
            f"on before looking."
        )


def _batches(found: Findings) -> Iterator[str]:
    rows = found.problem["sizes"]["train"]
    if found.spec.batch_size > rows:
        yield (
            f"Batches of {found.spec.batch_size} were asked for, and there are {rows} training examples: "
            f"every epoch is one step with all of them."
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


# Options that the method's own paper chooses on validation for each problem.
TUNED_BY_PAPER: Mapping[str, str] = {"uw_so": "temperature"}

CHECKS: Mapping[str, Callable[[Findings], Iterator[str]]] = {
    "unfinished": _unfinished,
    "kept": mishaps.kept,
    "failed": mishaps.failed,
    "diverged": mishaps.diverged,
    "stand-in": _stand_in,
    "edge": _edge,
    "few-rates": _few_rates,
    "few-seeds": _few_seeds,
    "near-zero": _near_zero,
    "first-loss": _no_first_loss,
    "gates": _gates,
    "noise": _noise,
    "budgets": _budgets,
    "untuned": _untuned,
    "one-rate": _one_rate,
    "pairing": mishaps.pairing,
    "batches": _batches,
    "sgd": _sgd,
    "crowded": mishaps.crowded,
    "environments": mishaps.versions,
}
# What the rest of a study may change is not said before it has run.
MAY_CHANGE = ("stand-in", "edge", "few-rates", "near-zero", "noise", "budgets", "one-rate")
