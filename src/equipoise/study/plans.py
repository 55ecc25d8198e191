"""From arms to trials: what each arm tries, what it chooses by validation, and its final trials.

A plan is a function of what is known. It names all trials that can be named now; once they have run, a plan
made again may name more, until none is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from equipoise.study import pruning
from equipoise.study.arms import Arm
from equipoise.study.choice import Choice
from equipoise.study.selection import Measurements
from equipoise.study.spaces import Candidate, Known
from equipoise.study.spec import Spec
from equipoise.study.statistics import Array, Mask, change, delta_m, near_zero, usual_spread
from equipoise.study.trial import SINGLE_TASK, Stage, Trial, with_options

# Away from the seeds of final trials, so that a final trial never repeats a run it was selected by.
FIRST_TUNING_SEED = 1_000_000


@dataclass(frozen=True)
class Plan:
    """The trials of an arm.

    Attributes:
        arm: the arm.
        tried: candidates with their trials, for every run of the tuning procedure.
        choice: what it chose.
        finals: the final trial of each seed; None where nothing is chosen yet, or nothing finished.
    """

    arm: Arm
    tried: tuple[Mapping[Candidate, tuple[Trial, ...]], ...]
    choice: Choice
    finals: tuple[Trial | None, ...]


def plans(spec: Spec, arms: Sequence[Arm], found: Measurements) -> dict[str, Plan]:
    """The plan of each arm, by label.

    A single-task network is chosen by the first metric of its task; every other arm by Delta_m against
    the mean of the chosen single-task networks. Only rows of the validation split are read.
    """
    return _Planner(spec, arms, found).plans()


def trials(planned: Mapping[str, Plan], spec: Spec) -> Iterator[Trial]:
    """All trials of some plans, each once: those of tuning, then the final ones.

    Seed by seed, so that what is paired runs at about the same time, under the same load.
    """
    seen: dict[Trial, None] = {}
    for number in range(len(procedures(spec))):
        for plan in planned.values():
            for own in plan.tried[number].values():
                seen.update(dict.fromkeys(own))
    for number in range(len(spec.seeds)):
        for plan in planned.values():
            final = plan.finals[number]
            if final is not None:
                seen[final] = None
    yield from seen


def key_of(spec: Spec, arm: Arm, seed: int) -> str:
    """What the candidates that a search named are stored under; empty for a space that is known at once."""
    searched = arm.space.remembered
    return f"{with_options(spec.problem_options)} {seed} {searched}" if searched else ""


def named(planned: Mapping[str, Plan], spec: Spec) -> dict[str, list[Any]]:
    """The candidates that searches have named, for a store to keep."""
    return {
        key: [astuple(candidate) for candidate in own]
        for plan in planned.values()
        for seeds, own in zip(procedures(spec), plan.tried, strict=True)
        for key in [key_of(spec, plan.arm, seeds[0])]
        if key
    }


def procedures(spec: Spec) -> list[list[int]]:
    """The seeds of every run of the tuning procedure.

    Where every seed tunes for itself, the trial of its best candidate is its final one: it measures the test
    split after its last epoch, which nothing looks at unless the candidate was chosen.
    """
    if spec.tuning == "per seed":
        return [[seed] for seed in spec.seeds]
    return [[FIRST_TUNING_SEED + number for number in range(spec.tuning_seeds)]]


@dataclass
class _Planner:
    spec: Spec
    arms: Sequence[Arm]
    found: Measurements
    done: dict[str, Plan] = field(default_factory=dict)
    made: dict[tuple[str, Candidate, Stage, int], Trial] = field(default_factory=dict)

    def plans(self) -> dict[str, Plan]:
        # What Delta_m is taken against comes first.
        for arm in sorted(self.arms, key=lambda arm: arm.method != SINGLE_TASK):
            self.done[arm.label] = self._plan(arm)
        return {arm.label: self.done[arm.label] for arm in self.arms}

    @property
    def _stage(self) -> Stage:
        """Of tuning: where every seed tunes for itself its trials are the final ones."""
        return "final" if self.spec.tuning == "per seed" else "tune"

    def _plan(self, arm: Arm) -> Plan:
        tried, scored, chosen = [], [], []
        complete = True
        for number, seeds in enumerate(procedures(self.spec)):
            known = self._known(arm, seeds, number)
            candidates = arm.space.candidates(known)
            own = {c: self._trials(arm, c, seeds) for c in dict.fromkeys(candidates or ())}
            ended = candidates is not None and self._all_known(own.values())
            # Before it is settled what Delta_m is taken against, a search has not begun to learn.
            ended = ended and (arm.task is not None or self._settled)
            scores = {c: self._score(arm, each) for c, each in own.items()}
            tried.append(own)
            scored.append(scores)
            chosen.append(_best(scores) if ended else None)
            complete &= ended
        if self.spec.tuning == "once":
            scored, chosen = scored * len(self.spec.seeds), chosen * len(self.spec.seeds)
        every = dict.fromkeys(candidate for scores in scored for candidate in scores)
        by_candidate = {c: tuple(scores.get(c) for scores in scored) for c in every}
        finals = [
            None if candidate is None else self._trial(arm, candidate, "final", seed)
            for candidate, seed in zip(chosen, self.spec.seeds, strict=True)
        ]
        return Plan(arm, tuple(tried), Choice(tuple(chosen), by_candidate, complete), tuple(finals))

    def _known(self, arm: Arm, seeds: Sequence[int], number: int) -> Known:
        def score(candidate: Candidate) -> float | None:
            own = self._trials(arm, candidate, seeds)
            ready = arm.task is not None or (self._settled and len(self.reference) > 0)
            if not ready or not all(self.found.known(trial) for trial in own):
                return None
            return self._score(arm, own)

        def weights(label: str) -> Mapping[str, float] | None:
            plan = self.done.get(label)
            if plan is None or not plan.choice.complete:
                return None
            candidate = plan.choice.by_seed[number]
            return {} if candidate is None else self.found.weights(plan.tried[number][candidate][0])

        def bars(candidates: Sequence[Candidate]) -> str:
            if arm.task is not None or not (self._settled and len(self.reference)):
                return "{}"
            curves = [self._curve(self._trials(arm, c, seeds)[0]) for c in candidates]
            medians = pruning.medians([each for each in curves if each])
            return pruning.bars(self.found.measures, self.reference, self._plain, medians)

        return Known(seeds[0], score, weights, bars, self._before(arm, seeds))

    def _before(self, arm: Arm, seeds: Sequence[int]) -> tuple[Candidate, ...]:
        """Candidates that a search named at an earlier look."""
        stored = self.found.named.get(key_of(self.spec, arm, seeds[0]), ())
        return tuple(Candidate(*each) for each in stored)

    def _curve(self, trial: Trial) -> dict[int, float]:
        epochs = self.found.curve(trial, "validation")
        return {epoch: self._delta(self.found.row(row)) for epoch, row in epochs.items()}

    def _score(self, arm: Arm, own: Sequence[Trial]) -> float:
        """NaN where a trial did not finish, or there is nothing to compare with yet."""
        row = np.mean([self.found.last(trial, "validation") for trial in own], axis=0)
        if arm.task is None:
            return self._delta(row)
        first = int(np.flatnonzero(self.found.task_of == self.found.tasks.index(arm.task))[0])
        return float(row[first] * (1.0 if self.found.higher[first] else -1.0))

    def _delta(self, row: Array) -> float:
        if not len(self.reference):
            return float("nan")
        against = change(row[None], self.reference, self.found.higher, self._plain)
        return float(delta_m(against.values, self.found.task_of)[0])

    def _all_known(self, tried: Iterable[Sequence[Trial]]) -> bool:
        return all(self.found.known(trial) for own in tried for trial in own)

    @cached_property
    def _settled(self) -> bool:
        """Whether what Delta_m is taken against will not change any more."""
        single = [self.done[arm.label].choice for arm in self.arms if arm.task is not None]
        if not all(choice.complete for choice in single):
            return False
        return len(self._alone) > 0 or self._all_known(self._equal)

    @cached_property
    def reference(self) -> Array:
        """Runs on validation of the chosen single-task networks, ``[R, M]``.

        Those of equal weights where there is a task of which no network finished.
        """
        if len(self._alone):
            return self._alone
        rows = np.stack(
            [self.found.last(trial, "validation") for own in self._equal for trial in own]
        )
        return np.asarray(rows[np.isfinite(rows).all(1)])

    @cached_property
    def _plain(self) -> Mask:
        """Columns whose reference on validation is near zero, ``[M]``.

        Arms that are being tuned can have no say in it yet. All candidates of the single-task networks can.
        """
        runs: dict[tuple[str, Candidate], list[Array]] = {}
        for label, plan in self.done.items():
            for tried in plan.tried if plan.arm.task is not None else ():
                for candidate, own in tried.items():
                    rows = [self.found.last(trial, "validation") for trial in own]
                    runs.setdefault((label, candidate), []).extend(rows)
        floors = self.found.floors(self.spec.near_zero)
        return near_zero(self.reference, floors, usual_spread([np.stack(r) for r in runs.values()]))

    @cached_property
    def _alone(self) -> Array:
        """Runs on validation of the chosen single-task networks, without gaps, ``[R, M]``."""
        runs: dict[str, list[Trial | None]] = {}
        for arm in self.arms:
            if arm.task is not None:
                plan = self.done[arm.label]
                runs[arm.task] = [
                    trial
                    for own, chosen in zip(plan.tried, plan.choice.by_seed, strict=False)
                    if chosen is not None
                    for trial in own[chosen]
                ] or [None]
        most = max(map(len, runs.values()))
        padded = {task: own + [None] * (most - len(own)) for task, own in runs.items()}
        return self.found.gapless(self.found.single_task(padded, "validation"))

    @cached_property
    def _equal(self) -> list[tuple[Trial, ...]]:
        """All trials of equal weights that can be named."""
        equal = next(arm for arm in self.arms if arm.label == "ew")
        found = []
        for seeds in procedures(self.spec):
            before = self._before(equal, seeds)
            nothing = Known(seeds[0], lambda _: None, lambda _: None, lambda _: "{}", before)
            candidates = equal.space.candidates(nothing) or ()
            found += [self._trials(equal, candidate, seeds) for candidate in candidates]
        return found

    def _trials(self, arm: Arm, candidate: Candidate, seeds: Sequence[int]) -> tuple[Trial, ...]:
        return tuple(self._trial(arm, candidate, self._stage, seed) for seed in seeds)

    def _trial(self, arm: Arm, candidate: Candidate, stage: Stage, seed: int) -> Trial:
        key = (arm.label, candidate, stage, seed)
        if key not in self.made:
            self.made[key] = self._make(arm, candidate, stage, seed)
        return self.made[key]

    def _make(self, arm: Arm, candidate: Candidate, stage: Stage, seed: int) -> Trial:
        # Fields that do not touch a single-task network stay at their default: studies share its trials.
        spec, single = self.spec, arm.method == SINGLE_TASK
        shared = spec.of_trials()
        if single:
            shared |= {"route": "auto", "weight_sum": "paper"}
        return Trial(
            **shared,
            method=arm.method,
            method_options=candidate.options,
            arguments=with_options(arm.arguments),
            task=arm.task,
            stage=stage,
            seed=seed,
            learning_rate=candidate.learning_rate,
            weight_decay=candidate.weight_decay,
            checkpoint=spec.checkpoint,
            flatness=0.0 if single or stage == "tune" else spec.flatness,
            # A final trial of its own is run to its end, whatever is usual half-way.
            bars=candidate.bars if stage == "tune" or spec.tuning == "per seed" else "{}",
        )


def _best(scores: Mapping[Candidate, float]) -> Candidate | None:
    finite = [each for each, score in scores.items() if np.isfinite(score)]
    return max(finite, key=lambda each: scores[each]) if finite else None
