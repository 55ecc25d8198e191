"""What the numbers of a few steps say, in sentences, and which method to begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

from equipoise.diagnosis.jacobians import Gradients

# Gradient norms, or losses, that differ by more than this are a matter of scale.
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
        gradients = _Sizes({name: norms[name] for name in compared})
        # Of losses that may be negative, nearness to 0 says nothing.
        positive = min(*self.first.values(), *self.last.values()) > 0
        left = _Sizes({name: self.last[name] for name in compared} if positive else {})
        scaled = max(gradients.ratio, left.ratio) > SCALE
        if scaled:
            reasons += _scales(gradients, left, bool(apart))
        elif not reasons:
            losses = f", losses {left.far}" if positive else ""
            reasons.append(
                f"nothing stands out: gradient norms differ {gradients.far}{losses}, neither above "
                f"{SCALE:.0f}, and no two tasks point apart throughout"
            )
        return Reading(*_start(bool(apart), scaled, self.first), tuple(reasons))

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
            f"{self.got.agreement[name]:+.2f}) and its loss has not fallen ({self.learned[name]:.0%}): "
            f"nothing of it is learned yet at learning rate {self.rate:g}, or its labels are noise"
            for name in noisy
        ]
        return found

    def _apart(self, pairs: list[tuple[str, str]]) -> list[str]:
        return [
            f"the gradients of '{a}' and '{b}' point apart (cosine {self.got.cosines[a, b]:+.2f}, at most "
            f"{self.spread[a, b][1]:+.2f}): a conflict so far, which does not tell that training them "
            "apart is better"
            for a, b in pairs
        ]


@dataclass(frozen=True)
class _Sizes:
    """Positive numbers by task, and how far they differ."""

    by_task: Mapping[str, float]

    @property
    def ends(self) -> tuple[str, str]:
        """The tasks with the largest and the smallest."""
        return max(self.by_task, key=self.by_task.__getitem__), min(
            self.by_task, key=self.by_task.__getitem__
        )

    @property
    def ratio(self) -> float:
        if not self.by_task:
            return 1.0
        large, small = self.ends
        return self.by_task[large] / self.by_task[small]

    @property
    def far(self) -> str:
        large, small = self.ends if self.by_task else ("", "")
        return f"{self.ratio:,.3g} times ('{large}' and '{small}')"

    @property
    def weights(self) -> str:
        """Those that even it out, at least 1."""
        most = max(self.by_task.values())
        return ", ".join(f"{name} {most / size:.3g}" for name, size in self.by_task.items())


def _scales(gradients: _Sizes, left: _Sizes, apart: bool) -> list[str]:
    said = []
    if gradients.ratio > SCALE:
        what = (
            "beside the conflict: scales differ"
            if apart
            else "and no two tasks point apart throughout: a scale problem, not a conflict"
        )
        said.append(f"gradient norms differ {gradients.far}, {what}")
    if left.ratio > SCALE:
        small = left.ends[1]
        said.append(
            f"losses differ {left.far} after the steps: the plain sum hardly notices whether that of "
            f"'{small}' is halved; even it out if that matters to you"
        )
    if not apart:
        kind = gradients if gradients.ratio > SCALE else left
        said.append(f"fixed weights that even it out: {kind.weights}")
    return said


def _start(
    apart: bool, scaled: bool, first: Mapping[str, float]
) -> tuple[str, dict[str, Any], str]:
    if apart:
        # Insensitive to the scale of single gradients, so that it serves both cases.
        return "nash_mtl" if scaled else "cagrad", {}, "conflict"
    if scaled:
        return ("uw_o", {}, "scale") if min(first.values()) > 0 else ("unit_norm", {}, "scale")
    return "ew", {}, "nothing"
