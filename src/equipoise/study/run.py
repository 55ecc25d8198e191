"""Runs a study: what is missing of its tuning, the choice, what is missing of its final trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import equipoise
from equipoise.problems.fingerprint import changed, fingerprint
from equipoise.study.asked import NONE, Asked, asked
from equipoise.study.environment import environment
from equipoise.study.executors.base import Executor, facts
from equipoise.study.loading import parse
from equipoise.study.lock import only_driver
from equipoise.study.plans import named, trials
from equipoise.study.preparing import prepared
from equipoise.study.spec import Spec
from equipoise.study.store import Store
from equipoise.study.trial import Failure, Outcome, Trial


class Listener(Protocol):
    """Is told what happens."""

    def stage(self, name: str, total: int, kept: int) -> None:
        """A stage of ``total`` trials begins, of which ``kept`` were done before.

        Where trials are named in rounds it is called again for the same stage: both numbers are those of
        the whole stage then, as far as they are known.
        """

    def finished(self, trial: Trial, outcome: Outcome) -> None:
        """A trial has an outcome, and it is on disk."""


class Silence:
    """A listener that says nothing."""

    def stage(self, name: str, total: int, kept: int) -> None:
        """Says nothing."""

    def finished(self, trial: Trial, outcome: Outcome) -> None:
        """Says nothing."""


def run(
    spec: Spec,
    out: str | Path,
    executor: Executor,
    listener: Listener | None = None,
    *,
    keep: bool = False,
) -> None:
    """Runs what the store at ``out`` lacks of a study.

    Args:
        spec: the study.
        out: the file of the store.
        executor: where trials run.
        listener: is told what happens.
        keep: whether trials are kept that ran before the problem's files, or this package, changed.

    Raises:
        ValueError: the study makes no sense, ``out`` holds another study, or another run writes to it.
    """
    listener = listener or Silence()
    settings = prepared(spec)
    with only_driver(Path(out)), Store(out) as store:
        _adopt(store, spec, {each.options: each.told for each in settings}, keep=keep)
        machine = environment()
        begun: set[str] = set()
        progress = _Progress(listener)
        # Some trials can be named only when others have ended: the finer values of a search, the final ones.
        while True:
            planned = [(each, each.plans(store)) for each in settings]
            searched = {k: v for each, plan in planned for k, v in named(plan, each.spec).items()}
            if searched:
                store.set(named={**(store.get("named") or {}), **searched})
            whole = NONE
            for each, plan in planned:
                whole |= asked(plan.values(), each.spec)
            wanted = {t.id: t for each, plan in planned for t in trials(plan, each.spec)}
            # A trial that failed is tried again by the next run, and not by this one.
            fresh = [trial for trial in wanted.values() if trial.id not in begun]
            # All of tuning comes before the final trials.
            now = [trial for trial in fresh if trial.id in whole.tuning] or fresh
            missing = store.missing(now)
            progress.tell(whole, now, len(now) - len(missing))
            if not fresh:
                return
            begun.update(trial.id for trial in now)
            _execute(missing, store, executor, listener, machine)


class _Progress:
    """Tells a listener how far a stage is as a whole, though its trials are named in rounds."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._name = "tuning"
        self._kept = 0
        self._total = -1

    def tell(self, whole: Asked, now: Sequence[Trial], kept: int) -> None:
        """Trials are about to run, of which some were kept from before."""
        if now and now[0].id in whole.finals and self._name == "tuning":
            # What was still to come of tuning never came.
            self._announce(len(whole.tuning))
            self._name, self._kept, self._total = "final", 0, -1
        self._kept += kept
        final = self._name == "final"
        trials, to_come = (
            (whole.finals, whole.finals_to_come) if final else (whole.tuning, whole.tuning_to_come)
        )
        self._announce(len(trials) + to_come, always=kept > 0)

    def _announce(self, total: int, always: bool = False) -> None:
        if always or total != self._total:
            self._listener.stage(self._name, total, self._kept)
            self._total = total


def _execute(
    missing: Sequence[Trial],
    store: Store,
    executor: Executor,
    listener: Listener,
    machine: Mapping[str, Any],
) -> None:
    here = {**machine, **facts(executor, missing)}
    with closing(executor.run(missing)) as outcomes:
        for trial, outcome in outcomes:
            store.add(trial, outcome, here)
            listener.finished(trial, outcome)
            if isinstance(outcome, Failure) and outcome.cause == "data":
                # Every other trial reads the same files.
                raise ValueError(outcome.error)


def _adopt(store: Store, spec: Spec, told: Mapping[str, Any], *, keep: bool) -> None:
    """Makes the store one of this study, unless it holds trials of a different problem.

    Trials are found by their contents, so that a study may gain methods, seeds or learning rates, or
    change its budget: what it has in common with the old one is kept. Only trials on different data, or by
    different code, must not be mixed.
    """
    own = [spec.optimizer, spec.schedule, *(method.id for method in spec.methods)]
    source = fingerprint(spec.problem, *(each for each in own if ":" in each))
    before = store.get("spec")
    if before is not None:
        old = parse(before, str(store.path), stored=True)
        elsewhere = f"{str(store.path)!r} holds a study of"
        if (old.problem, old.problem_options) != (spec.problem, spec.problem_options):
            raise ValueError(
                f"{elsewhere} problem {old.problem!r} with options {old.problem_options}, this one is of "
                f"{spec.problem!r} with {spec.problem_options}; use another --out"
            )
        ran = store.get("fingerprint") or {}
        # What a new method of the user's brings along changes no trial that ran.
        found = {name: digest for name, digest in source.items() if name in ran}
        different = changed(ran, {**{n: d for n, d in ran.items() if n not in source}, **found})
        known = store.get("problems") or {}
        if not different and any(known[key] != told[key] for key in told if key in known):
            different = ["what the problem says of itself (tasks, metrics, sizes, first losses)"]
        if different and not keep:
            raise ValueError(
                f"{elsewhere} {spec.problem!r} as it was then: {'; '.join(different)}. Old and new trials "
                "cannot be compared: use another --out, or --keep if you know that they can"
            )
        if different:
            store.set(kept=list(dict.fromkeys([*(store.get("kept") or []), *different])))
        source = {**ran, **source}
        told = {**known, **told}
    store.set(
        spec=spec.model_dump(mode="json"),
        problems=dict(told),
        fingerprint=source,
        version=equipoise.__version__,
    )
