"""What the numbers of a few steps say, in sentences, and which method to begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

from equipoise.diagnosis.jacobians import Gradients

# Gradient norms that differ by more than this are a matter of scale.
SCALE = 10.0
# Mean gradients that point apart by more than this at every point that was looked at are told as a conflict.
# At one point they do by chance: at a high learning rate gradients swing from step to step.
APART = -0.2
# A task whose gradients agree less than this between batches, and whose loss has fallen by less than
# LEARNED, has learned nothing that these batches have in common.
AGREED = 0.1
LEARNED = 0.05


class Reading(NamedTuple):
    """What is suggested.

    Attributes:
        method: id of a method to begin with.
        options: of it.
        kind: what stood out.
        reasons: a sentence each.
    """

    method: str
    options: Mapping[str, Any]
    kind: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """The numbers of a few steps.

    Attributes:
        first: loss before the steps, by task.
        last: after them.
        got: of the task gradients, over all points.
        spread: least and greatest cosine of two tasks over the points.
        rate: the learning rate.
    """

    first: Mapping[str, float]
    last: Mapping[str, float]
    got: Gradients
    spread: Mapping[tuple[str, str], tuple[float, float]]
    rate: float

    @property
    def learned(self) -> dict[str, float]:
        """By which share of itself each loss fell."""
        return {
            name: (before - self.last[name]) / abs(before) if before else 0.0
            for name, before in self.first.items()
        }

    def read(self, tasks: tuple[str, ...]) -> Reading:
        """Method, options, what stood out, and the reasons.

        Args:
            tasks: names of all tasks, for those that are in no batch.
        """
        norms = self.got.norms
        idle = [name for name, norm in norms.items() if norm == 0]
        noisy = [
            name
            for name, agreed in self.got.agreement.items()
            if name not in idle and agreed < AGREED and self.learned[name] < LEARNED
        ]
        good = [name for name in norms if name not in idle and name not in noisy]
        apart = [pair for pair in combinations(good, 2) if self.spread[pair][1] < APART]
        compared = good if len(good) > 1 else [name for name in norms if name not in idle]
        reasons = [*self._unfit(tasks, idle, noisy), *self._apart(apart)]
        largest = max(compared, key=norms.__getitem__, default="")
        smallest = min(compared, key=norms.__getitem__, default="")
        ratio = norms[largest] / norms[smallest] if compared else 1.0
        far = f"{ratio:,.3g} times ('{largest}' and '{smallest}')"
        if ratio > SCALE and apart:
            reasons.append(f"gradient norms differ {far} beside the conflict: scales differ")
        elif ratio > SCALE:
            weights = ", ".join(f"{n} {norms[largest] / norms[n]:.3g}" for n in compared)
            reasons += [
                f"gradient norms differ {far}, and no two tasks point apart throughout: a scale problem, not "
                "a conflict",
                f"fixed weights that even it out: {weights}",
            ]
        elif not reasons:
            reasons.append(
                f"nothing stands out: gradient norms differ {far}, which is not above {SCALE:.0f}, and no "
                "two tasks point apart throughout"
            )
        return Reading(*_start(bool(apart), ratio > SCALE, self.first), tuple(reasons))

    def _unfit(self, tasks: tuple[str, ...], idle: list[str], noisy: list[str]) -> list[str]:
        """What keeps the other numbers from meaning much."""
        found = [
            f"task '{name}' is in none of the batches: is its loss computed?"
            for name in tasks
            if name not in self.first
        ]
        if all(part < -1 for part in self.learned.values()):
            found.append(
                f"every loss more than doubled in these steps: a learning rate of {self.rate:g} is too high "
                "for the numbers to mean anything; give suggest() the learning_rate that you train with"
            )
        found += [
            f"task '{name}' has no gradient at the shared parameters: it does not train them"
            for name in idle
        ]
        found += [
            f"the gradients of task '{name}' differ from batch to batch (mean cosine "
            f"{self.got.agreement[name]:+.2f}) and its loss has not fallen ({self.learned[name]:.0%}): its "
            "labels may be noise, or nothing of it is learned yet"
            for name in noisy
        ]
        return found

    def _apart(self, pairs: list[tuple[str, str]]) -> list[str]:
        return [
            f"the gradients of '{a}' and '{b}' point apart (cosine {self.got.cosines[a, b]:+.2f}, at most "
            f"{self.spread[a, b][1]:+.2f}): a conflict at this point, which does not tell that training them "
            "apart is better"
            for a, b in pairs
        ]


def _start(
    apart: bool, scaled: bool, first: Mapping[str, float]
) -> tuple[str, dict[str, Any], str]:
    if apart:
        # Insensitive to the scale of single gradients, so that it serves both cases.
        return "nash_mtl" if scaled else "cagrad", {}, "conflict"
    if scaled:
        return ("uw_o", {}, "scale") if min(first.values()) > 0 else ("unit_norm", {}, "scale")
    return "ew", {}, "nothing"
