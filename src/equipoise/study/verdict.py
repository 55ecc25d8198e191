"""Sentences a person can act on, each with its number and interval; and what to be careful about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from equipoise.study.analyses import Front, fronts
from equipoise.study.arm_findings import ArmFindings
from equipoise.study.findings import Findings
from equipoise.study.fixed import FIXED
from equipoise.study.missing import missing
from equipoise.study.statistics import Difference, Estimate
from equipoise.study.statistics.moderation import FEWEST_PAIRS
from equipoise.study.words import listed, p_equals

Outcome = Literal["better", "worse", "undecided", "untested"]
MINUS = "−"
# After the point; what is smaller still is written with its power of ten.
MOST_DIGITS = 4

# What the sentences call a baseline, by its method.
CALLED = {
    "ew": "equal weights",
    "rlw": "random weights",
    "rgw": "random gradient weights",
}


@dataclass(frozen=True)
class Sentence:
    """One sentence of the verdict.

    Attributes:
        text: the sentence.
        outcome: what it says about the arm.
        arm: label of the arm; empty for the whole study.
    """

    text: str
    outcome: Outcome
    arm: str = ""


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, and a real minus."""
    if not np.isfinite(value):
        return "n/a"
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else MINUS) + text


def interval(estimate: Estimate, digits: int = 1) -> str:
    """``+0.4 [−0.2, 1.0]``; more digits where a bound or the whole interval would be rounded to 0."""
    if not np.isfinite(estimate.low):
        return signed(estimate.value, digits)
    decide = estimate.low * estimate.high > 0
    small = [(estimate.high - estimate.low) / 2]
    small += [min(abs(estimate.low), abs(estimate.high))] if decide else []
    needed = [-math.floor(math.log10(each)) for each in small if 0 < each < 0.5 * 10**-digits]
    digits = max([digits, *(each for each in needed if each <= MOST_DIGITS)])
    bounds = [_bound(bound, digits, decide) for bound in (estimate.low, estimate.high)]
    return f"{signed(estimate.value, digits)} [{', '.join(bounds)}]"


def _bound(value: float, digits: int, decides: bool) -> str:
    """One that decides is never rounded to 0."""
    text = signed(value, digits)
    if decides and float(f"{value:.{digits}f}") == 0:
        text = f"{value:+.0e}".replace("-", MINUS, 1)
    return text.lstrip("+")


def size(value: float) -> str:
    """A size in points: one digit after the point, or the first that is not 0."""
    text = f"{value:.1f}"
    return text if value == 0 or float(text) else f"{value:.1g}"


def outcome(entry: ArmFindings, baseline: str) -> Outcome:
    """What was shown about an arm against a baseline.

    A method that lost a run to divergence or failure is never called better: the runs that are left are
    those that went well.
    """
    gap = entry.against.get(baseline)
    if gap is None or not gap.tested:
        return "untested"
    if not gap.shown():
        return "untested" if gap.waits else "undecided"
    if gap.value < 0:
        return "worse"
    return "better" if entry.complete else "undecided"


def compare(entry: ArmFindings, baseline: str) -> Sentence:
    """One arm against one baseline."""
    label = entry.arm.label
    gap = entry.against[baseline]
    head = f"{label} {MINUS} {baseline}"
    verdict = outcome(entry, baseline)
    if verdict == "untested":
        why = (
            "fewer than three paired runs" if gap.runs < FEWEST_PAIRS else "no spread between seeds"
        )
        why = "waits for a difference to an earlier baseline" if gap.waits else why
        return Sentence(f"{head}: {why}, nothing can be said", verdict, label)
    if gap.value == 0 and gap.wins == 0:
        return Sentence(f"{head}: the same runs in every seed", verdict, label)
    said = {
        "better": f"better than {baseline}",
        "worse": f"worse than {baseline}",
        "undecided": "no difference shown",
    }[verdict]
    text = f"{head}: {interval(gap)} Delta_m over {gap.runs} seeds: {said} {_evidence(gap)}"
    if verdict == "undecided" and not gap.shown():
        text += f"; {size(gap.detectable)} would have been shown in 80 % of such studies"
    return Sentence(text, verdict, label)


def _evidence(gap: Difference) -> str:
    return f"({p_equals(gap.p_holm)} after Holm; won {gap.wins} of {gap.runs})"


def headline(found: Findings, seen: Sequence[Front] | None = None) -> list[Sentence]:
    """The verdict in few sentences: over each baseline in its order, and over single tasks.

    Args:
        found: of a study.
        seen: its fronts, where they are known already.
    """
    left = missing(found)
    first = []
    if left is not None:
        first = [Sentence(f"{left.text} What follows may change with them.", "untested")]
    sentences = []
    for baseline in found.baselines:
        method = found.arm(baseline).arm.method
        tested = [
            each
            for each in found.arms
            if outcome(each, baseline) != "untested" and (method, each.arm.method) != ("rlw", "rgw")
        ]
        if tested:
            called = f"{CALLED[method]} ({baseline})" if method in CALLED else baseline
            if baseline == FIXED:
                called = "tuned fixed weights"
            sentences.append(_overall(tested, baseline, called))
    if not sentences:
        return [
            *first,
            Sentence(
                "Nothing can be said yet: no method has three finished runs paired with a baseline's.",
                "untested",
            ),
        ]
    return [*first, *sentences, *_beside_front(found, seen), _joint(found)]


def _beside_front(found: Findings, seen: Sequence[Front] | None) -> list[Sentence]:
    """Which methods lie beyond the front of fixed weights, where these were tried all along it."""
    if not found.brute_force:
        return []
    seen = fronts(found) if seen is None else seen
    front = next((each for each in seen if each.kind == "test loss"), None)
    tested = [] if front is None else [m for m in front.methods if np.isfinite(m.p_holm)]
    if not tested:
        return []
    beyond = sorted((m for m in tested if m.shown()), key=lambda m: -m.beyond)
    if not beyond:
        who = (
            f"None of {len(tested)} methods was"
            if len(tested) > 1
            else f"{tested[0].label} was not"
        )
        text = f"{who} shown to lie beyond all fixed weights that were tried, in test loss."
        return [Sentence(text, "undecided")]
    named = [f"{m.label} ({p_equals(m.p_holm)})" for m in beyond]
    return [
        Sentence(
            f"Beyond all fixed weights that were tried, in test loss: {listed(named)}.", "better"
        )
    ]


def _overall(arms: list[ArmFindings], baseline: str, called: str) -> Sentence:
    better = _best_first([each for each in arms if outcome(each, baseline) == "better"], baseline)
    worse = _best_first([each for each in arms if outcome(each, baseline) == "worse"], baseline)[
        ::-1
    ]
    many = f"{len(arms)} methods" if len(arms) > 1 else arms[0].arm.label
    if not better and not worse:
        which = f"any of {many}" if len(arms) > 1 else many
        return Sentence(f"No difference to {called} was shown for {which}.", "undecided")
    if better:
        parts = [f"Better than {called}: {_named(better, baseline)}."]
    else:
        none = f"None of {many} was" if len(arms) > 1 else f"{many} was not"
        parts = [f"{none} shown to be better than {called}."]
    if worse:
        parts.append(f"Worse: {_named(worse, baseline)}.")
    left = len(arms) - len(better) - len(worse)
    if left:
        said = {each.arm.label for each in [*better, *worse]}
        last = next(each.arm.label for each in arms if each.arm.label not in said)
        parts.append(f"No difference shown for {last if left == 1 else f'the other {left}'}.")
    return Sentence(" ".join(parts), "better" if better else "worse")


def _named(arms: list[ArmFindings], baseline: str) -> str:
    """``cagrad +4.9 [2.8, 7.0] and pcgrad +1.5 [0.9, 2.0]``."""
    return listed([f"{one.arm.label} {interval(one.against[baseline])}" for one in arms])


def _best_first(arms: list[ArmFindings], baseline: str) -> list[ArmFindings]:
    return sorted(arms, key=lambda each: -each.against[baseline].value)


def _joint(found: Findings) -> Sentence:
    """Whether learning the tasks together paid at all."""
    gap, equal = found.joint, found.arm("ew")
    if gap is None or not gap.tested:
        return Sentence(
            "There is no interval for equal weights against single-task networks.", "untested"
        )
    known = f"{interval(gap)} Delta_m over {gap.runs} seeds"
    if gap.shown() and gap.value < 0:
        return Sentence(
            f"One network for all tasks with equal weights is worse than one network a task: {known}.",
            "worse",
        )
    if gap.shown() and equal.complete:
        return Sentence(
            f"One network for all tasks with equal weights is better than one network a task: {known}.",
            "better",
        )
    return Sentence(
        f"One network for all tasks with equal weights against one network a task: {known}: no difference "
        f"shown.",
        "undecided",
    )
