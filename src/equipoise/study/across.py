"""Several studies at once: ranks of the arms that all of them share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.study.analyses.robust import Robust, Stability, robust, stability
from equipoise.study.findings import Findings, findings
from equipoise.study.fixed import FIXED
from equipoise.study.statistics import Array, Friedman, friedman
from equipoise.study.store import Store
from equipoise.study.trial import SINGLE_TASK
from equipoise.study.verdict import Sentence, headline
from equipoise.study.words import p_equals


@dataclass(frozen=True)
class Problem:
    """A study of a problem.

    Attributes:
        name: as the report calls it, unlike that of the others.
        path: its store.
        found: its numbers.
    """

    name: str
    path: Path
    found: Findings

    @property
    def seeds(self) -> int:
        """Runs behind each of its scores."""
        return len(self.found.spec.seeds)

    @property
    def line(self) -> Sentence:
        """Its verdict in one sentence."""
        return headline(self.found, ())[0]


@dataclass(frozen=True)
class Across:
    """Arms over problems.

    Attributes:
        problems: P of them.
        labels: of the A arms that all problems share and that finished in all of them.
        left_out: shared arms that have no Delta_m in some problem, with the names of those problems.
        deltas: Delta_m, ``[A, P]``.
        test: ranks over problems; None where fewer than three arms are shared.
    """

    problems: list[Problem]
    labels: list[str]
    left_out: dict[str, list[str]]
    deltas: np.ndarray[Any, np.dtype[np.float64]]
    test: Friedman | None

    @property
    def runs(self) -> dict[str, Array]:
        """Delta_m of runs, ``[S, P]`` by label: as many of each problem as all arms finished in all."""
        whole = {
            label: [
                own[np.isfinite(own)] for p in self.problems for own in [p.found.arm(label).deltas]
            ]
            for label in self.labels
        }
        least = min((len(own) for each in whole.values() for own in each), default=0)
        return {
            label: np.stack([own[:least] for own in each], axis=1)
            for label, each in whole.items()
            if least
        }

    @property
    def baseline(self) -> str:
        """What the others are set against: tuned fixed weights, or equal ones; empty without either."""
        return next((label for label in (FIXED, "ew") if label in self.labels), "")

    @property
    def robust(self) -> list[Robust]:
        """The arms by other yardsticks; what is paired is a problem."""
        paired = dict(zip(self.labels, self.deltas, strict=True))
        return robust(self.runs, paired, self.baseline)

    @property
    def stability(self) -> list[Stability]:
        """The order of the arms without each problem, and without each arm."""
        if len(self.labels) < 2:
            return []
        count = len(self.problems)
        names = ("problem", [problem.name for problem in self.problems])
        every = np.ones(count, dtype=bool)
        return stability(
            self.labels, self.deltas, np.arange(count), names, self.deltas[:, None], every
        )

    @property
    def behind(self) -> list[str]:
        """Arms that are shown to be behind the best one, by the critical difference."""
        if self.test is None or not self.test.p <= 0.05:
            return []
        ranks = dict(zip(self.labels, map(float, self.test.ranks), strict=True))
        best = min(ranks.values())
        return [label for label in ranks if ranks[label] - best > self.test.critical]


def across(problems: Sequence[Problem]) -> Across:
    """Ranks the shared arms by their Delta_m in each problem.

    The unit is the problem: Delta_m is the mean over its seeds, and more seeds are no more problems.

    Raises:
        ValueError: fewer than two problems, or they share no arms.
    """
    if len(problems) < 2:
        raise ValueError("a report across problems needs the files of two studies at least")
    known = [[each.arm.label for each in problem.found.arms] for problem in problems]
    shared = [label for label in known[0] if all(label in labels for labels in known[1:])]
    if not shared:
        told = "; ".join(
            f"{problem.path} has {', '.join(labels)}"
            for problem, labels in zip(problems, known, strict=True)
        )
        raise ValueError(f"the studies share no arms, so nothing can be ranked over them: {told}")
    deltas = np.array([[p.found.arm(label).delta.value for p in problems] for label in shared])
    whole = np.isfinite(deltas).all(1)
    left_out = {
        label: [p.name for p, value in zip(problems, row, strict=True) if not math.isfinite(value)]
        for label, row, there in zip(shared, deltas, whole, strict=True)
        if not there
    }
    labels = [label for label, there in zip(shared, whole, strict=True) if there]
    deltas = deltas[whole]
    test = None
    if len(labels) >= 3:
        # The test sees one score a problem: its mean over seeds, whose number may differ.
        test = friedman(deltas[..., None], len(problems), 1)
    return Across(list(problems), labels, left_out, deltas, test)


def load(stores: Sequence[Path]) -> list[Problem]:
    """The studies with names that differ."""
    found: list[tuple[Path, Findings]] = []
    given: dict[Path, Path] = {}
    for path in stores:
        if path.resolve() in given:
            raise ValueError(f"{str(path)!r} was given twice: a study counts once")
        given[path.resolve()] = path
        with Store(path, read_only=True) as store:
            found.append((path, findings(store)))
    titles = Counter(each.title for _, each in found)
    named, taken = [], Counter[str]()
    for path, each in found:
        title = each.title
        name = title if titles[title] == 1 else f"{title} ({path.stem})"
        taken[name] += 1
        if taken[name] > 1:
            name = f"{name} {taken[name]}"
        named.append(Problem(name, path, each))
    return named


def verdict(found: Across) -> str:
    """What the test says, in a sentence or two."""
    count = f"{len(found.labels)} arms over {len(found.problems)} problems"
    if found.test is None:
        if not found.labels:
            return f"No arm has a Delta_m in all of {len(found.problems)} problems: there is nothing to rank."
        return f"Only {count} are shared: ranks need three arms."
    p = p_equals(found.test.p)
    if not found.test.p <= 0.05:
        return f"No difference in rank was shown between {count} (Friedman, {p})."
    ranks = dict(zip(found.labels, map(float, found.test.ranks), strict=True))
    best = min(ranks, key=lambda label: ranks[label])
    text = f"Ranks differ between {count} (Friedman, {p}): {best} has the best mean rank, {ranks[best]:.1f}"
    if not found.behind:
        return f"{text}, but no arm is shown to be behind it (critical difference {found.test.critical:.1f})."
    return f"{text}, and is shown to be ahead of {', '.join(found.behind)}."


def careful(found: Across) -> list[str]:
    """What to know before believing it."""
    said = []
    count = len(found.problems)
    if count < 5:
        said.append(
            f"{count} problems: the unit of the test is the problem, so that {count} show large differences "
            f"only, however many seeds each has."
        )
    same = Counter(
        (p.found.spec.problem, str(p.found.spec.problem_options)) for p in found.problems
    )
    for (name, _), times in same.items():
        if times > 1:
            said.append(
                f"{times} studies are of the same problem, {name}: they are counted as if they were not."
            )
    other = [p.name for p in found.problems if p.found.reference != SINGLE_TASK]
    if other:
        said.append(
            f"Delta_m is taken against equal weights, not single-task networks, in {', '.join(other)}."
        )
    for label, names in found.left_out.items():
        said.append(f"{label} has no Delta_m in {', '.join(names)} and is not ranked.")
    return said
