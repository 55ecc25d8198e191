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
from equipoise.study.statistics import Difference, Estimate

Outcome = Literal["better", "worse", "undecided", "untested"]
MINUS = "−"

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
    """``+0.4 [−0.2, 1.0]``; more digits where a bound would be rounded to the 0 that it does not reach."""
    if not np.isfinite(estimate.low):
        return signed(estimate.value, digits)
    nearest = min(abs(estimate.low), abs(estimate.high))
    if estimate.low * estimate.high > 0 and float(f"{nearest:.{digits}f}") == 0:
        digits = -math.floor(math.log10(nearest))
    bounds = [signed(bound, digits).lstrip("+") for bound in (estimate.low, estimate.high)]
    return f"{signed(estimate.value, digits)} [{', '.join(bounds)}]"


def outcome(entry: ArmFindings, baseline: str) -> Outcome:
    """What was shown about an arm against a baseline.

    A method that lost a run to divergence or failure is never called better: the runs that are left are
    those that went well.
    """
    gap = entry.against.get(baseline)
    if gap is None or not gap.tested:
        return "untested"
    if not gap.shown():
        return "undecided"
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
        why = "fewer than three paired runs" if gap.runs < 3 else "no spread between seeds"
        return Sentence(f"{head}: {why}, nothing can be said", verdict, label)
    said = {
        "better": f"better than {baseline}",
        "worse": f"worse than {baseline}",
        "undecided": "no difference shown",
    }[verdict]
    text = f"{head}: {interval(gap)} Delta_m over {gap.runs} seeds: {said} {_evidence(gap)}"
    if verdict == "undecided" and not gap.shown():
        text += f"; {gap.detectable:.1f} would have been shown in 80 % of such studies"
    return Sentence(text, verdict, label)


def _evidence(gap: Difference) -> str:
    return f"(p {_p(gap.p_holm)} after Holm; won {gap.wins} of {gap.runs})"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def headline(found: Findings, seen: Sequence[Front] | None = None) -> list[Sentence]:
    """The verdict in few sentences: over each baseline in its order, and over single tasks.

    Args:
        found: of a study.
        seen: its fronts, where they are known already.
    """
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
            Sentence(
                "Nothing can be said yet: no method has three finished runs paired with a baseline's.",
                "untested",
            )
        ]
    return [*sentences, *_beside_front(found, seen), _joint(found)]


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
        text = f"None of {len(tested)} methods was shown to lie beyond all fixed weights that were tried"
        return [Sentence(f"{text}, in test loss.", "undecided")]
    named = [f"{m.label} (p {_p(m.p_holm)})" for m in beyond]
    listed = " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
    return [
        Sentence(f"Beyond all fixed weights that were tried, in test loss: {listed}.", "better")
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
        parts.append(f"No difference shown for the other {left}.")
    return Sentence(" ".join(parts), "better" if better else "worse")


def _named(arms: list[ArmFindings], baseline: str) -> str:
    """``cagrad +4.9 [2.8, 7.0] and pcgrad +1.5 [0.9, 2.0]``."""
    each = [f"{one.arm.label} {interval(one.against[baseline])}" for one in arms]
    return " and ".join(filter(None, [", ".join(each[:-1]), each[-1]]))


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
