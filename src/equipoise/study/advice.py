"""What to do next: a few sentences that follow from what a study found, most useful first."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, median

import numpy as np

from equipoise.study.arm_findings import ArmFindings
from equipoise.study.ends import ends
from equipoise.study.findings import Findings
from equipoise.study.fixed import FIXED
from equipoise.study.missing import missing
from equipoise.study.statistics import seeds_needed
from equipoise.study.verdict import CALLED, outcome, signed, size

MOST = 4
# Gradients this many times apart are a matter of scale that is worth a sentence.
FAR_APART = 10.0
# Cosines this close to zero say that tasks neither help nor hinder each other's step.
NEAR_ZERO = 0.1
# Which way to widen what was tried.
WAYS = {"highest": "upwards", "lowest": "downwards"}
# Differences in Delta_m to plan seeds for, in percentage points.
GOALS = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0)
# No plan asks for more seeds than this many times those there are.
LONGEST = 5


def advice(found: Findings) -> list[str]:
    """What to do next, in at most four sentences."""
    left = missing(found)
    if left is None:
        return [text for rule in RULES for text in rule(found)][:MOST]
    first = f"Let the study finish first: {left.short}. The same command goes on where it stopped."
    # The gradients under equal weights are what they are, whatever the others will do.
    return [first, *(_scale(found) if found.arm("ew").complete else ())]


def _take(found: Findings) -> Iterator[str]:
    """Which weighting to take, as far as it was shown."""
    labels = [label for label in (FIXED, "ew") if label in found.baselines]
    tested = [
        each
        for each in found.arms
        if any(outcome(each, label) != "untested" for label in found.baselines)
    ]
    if not tested:
        return
    equal = next((each for each in tested if each.arm.label == "ew"), None)
    behind = equal is not None and outcome(equal, FIXED) == "worse"
    if behind and not _better(tested, FIXED):
        weights = _weights(found, found.arm(FIXED))
        yield f"Take fixed weights, {weights}: no method was shown to do better."
        return
    for label in labels or found.baselines[:1]:
        better = _better(tested, label)
        if better:
            best = better[0]
            but = (
                f", though not than {_called(labels[0])}" if label != (labels or [label])[0] else ""
            )
            yield f"Take {_name(best)}: shown to be better than {_called(label)}{but}{_cost(best)}."
            return
    yield "Take equal weights for now: nothing was shown to do better, and nothing costs less."


def _better(arms: Sequence[ArmFindings], baseline: str) -> list[ArmFindings]:
    shown = [each for each in arms if outcome(each, baseline) == "better"]
    return sorted(shown, key=lambda each: -each.against[baseline].value)


def _name(each: ArmFindings) -> str:
    return _called(each.arm.label) if each.arm.label == "ew" else f"`{each.arm.label}`"


def _cost(each: ArmFindings) -> str:
    if each.arm.label == "ew":
        return ""
    if each.spent is None or not math.isfinite(each.spent.ratio):
        return ""
    if 0.87 < each.spent.ratio < 1.15:
        return ", in about the time of equal weights"
    return f", in {each.spent.ratio:.2g} times the time of equal weights"


def _weights(found: Findings, base: ArmFindings) -> str:
    chosen = base.choice.chosen
    if not chosen:
        return "those that were tuned"
    best, seeds = next(iter(chosen.items()))
    values = dict(zip(found.single, best.option("weights"), strict=True))
    told = ", ".join(f"`{task}` {value:g}" for task, value in values.items())
    if len(values) > 6:
        told = f"the tuned ones, {min(values.values()):g} to {max(values.values()):g}"
    of = sum(map(len, chosen.values()))
    return told if len(seeds) == of else f"{told} (the choice of {len(seeds)} of {of} seeds)"


def _widen(found: Findings) -> Iterator[str]:
    """Learning rates: where the best one lay at an end of those tried."""
    low, high = found.spec.rate_span()
    if found.spec.how == "grid":
        rates = sorted({each.learning_rate for each in found.arm("ew").choice.scores})
        if len(rates) < 2:
            yield "Try at least three learning rates: methods differ in the scale of their updates."
            return
        beyond = {"lowest": rates[0] ** 2 / rates[1], "highest": rates[-1] ** 2 / rates[-2]}
    else:
        beyond = {"lowest": low / 10, "highest": high * 10}
    at: dict[str, list[str]] = {side: [] for side in WAYS}
    for each in ends(found):
        if each.name == "learning rate" and each.limits == (low, high):
            at[each.side] += each.labels
    lost = [
        each.arm.label
        for each in found.all_arms
        if each.choice.candidate is None and any(each.plan.tried)
    ]
    drawn = found.spec.how != "grid"
    said = []
    for side, labels in sorted(at.items(), key=lambda pair: -len(pair[1])):
        why = []
        if labels:
            why.append(f"the {side} {'were' if drawn else 'was'} the best for {_counted(labels)}")
        if lost and side == "lowest":
            why.append(f"{_counted(lost)} finished with none of those tried")
        if why:
            said.append(f"{WAYS[side]} to {_round(beyond[side])}, say ({'; '.join(why)})")
    if said:
        yield f"Widen the learning rates {' and '.join(said)}."


def _round(value: float) -> str:
    return f"{float(f'{value:.1g}'):g}"


def _counted(labels: Sequence[str]) -> str:
    return f"`{labels[0]}`" if len(labels) == 1 else f"{len(labels)} arms"


def _scale(found: Findings) -> Iterator[str]:
    """Task gradients of very different size under equal weights."""
    norms, cosines = gradients(found)
    if len(norms) < 2:
        return
    large, small = max(norms, key=lambda t: norms[t]), min(norms, key=lambda t: norms[t])
    ratio = norms[large] / norms[small]
    if ratio < FAR_APART:
        return
    size = f"{float(f'{ratio:.1g}'):.0f}"
    text = (
        f"`{large}` has gradients {size} times larger than `{small}`: standardise its targets if they "
        f"are numbers, or weight it 1/{size}."
    )
    if cosines and max(abs(each) for each in cosines) < NEAR_ZERO:
        text += " Cosines between task gradients are near zero: a matter of scale, not of conflict."
    yield text


def gradients(found: Findings, label: str = "ew") -> tuple[dict[str, float], list[float]]:
    """Norms of an arm's task gradients, by task, and the cosines of all pairs; means over epochs and seeds.

    Tasks whose gradient is zero have no norm here.
    """
    ids = {run.id for each in found.arms if each.arm.label == label for run in each.runs}
    seen: dict[tuple[str, str], list[float]] = defaultdict(list)
    for trial, _, task, other, value in found.gradients:
        if trial in ids and math.isfinite(value):
            seen[task, other].append(value)
    means = {pair: fmean(values) for pair, values in seen.items()}
    norms = {task: mean for (task, other), mean in means.items() if task == other and mean > 0}
    return norms, [mean for (task, other), mean in means.items() if task != other]


def _sharing(found: Findings) -> Iterator[str]:
    """Tasks that would be better off alone, where sharing a network was shown to cost something."""
    equal = next((each for each in found.arms if each.arm.label == "ew"), None)
    if equal is None or found.reference == "ew":
        return
    joint = found.joint
    if joint is None or not (joint.shown() and joint.value < 0):
        return
    columns = defaultdict(list)
    for measure, change, plain in zip(found.measures, equal.changes, found.plain, strict=True):
        if not plain:
            columns[measure.task].append(float(change))
    losses = {task: fmean(own) for task, own in columns.items()}
    worst = min(losses, key=lambda task: losses[task], default="")
    if worst and losses[worst] < 0:
        yield (
            f"Try a network of its own for `{worst}`, or a wider trunk: with equal weights it loses most by "
            f"sharing ({signed(losses[worst])} %)."
        )


def _seeds(found: Findings) -> Iterator[str]:
    """How many more seeds would show how large a difference to the first baseline."""
    if not found.baselines:
        return
    first = found.baselines[0]
    base = found.arm(first)
    tested = sum(gap.tested for each in found.arms for gap in each.against.values())
    spreads, least = [], []
    for each in found.arms:
        if outcome(each, first) == "undecided":
            pairs = each.deltas - base.deltas
            if not np.nanstd(pairs) > 0:
                continue  # the same runs: no number of seeds will tell them apart
            spreads.append(float(np.nanstd(pairs, ddof=1)))
            least.append(each.against[first].detectable)
    if not spreads:
        return
    have, now, spread = len(found.spec.seeds), median(least), median(spreads)
    for goal in (each for each in GOALS if each <= 0.75 * now):
        try:
            needed = seeds_needed(goal, spread, tested, most=LONGEST * have)
        except ValueError:
            continue
        if needed > have:
            more = needed - have
            yield (
                f"{_number(more)} more seed{'s' if more > 1 else ''} would show a difference of {goal:.1f} "
                f"Delta_m to {_called(first)}, in 80 % of studies; {have} show one of {size(now)}."
            )
        return


def _number(count: int) -> str:
    words = ("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
    return words[count - 1] if count <= len(words) else str(count)


def _called(label: str) -> str:
    return "tuned fixed weights" if label == FIXED else CALLED.get(label, f"`{label}`")


RULES: tuple[Callable[[Findings], Iterator[str]], ...] = (_take, _widen, _scale, _seeds, _sharing)
