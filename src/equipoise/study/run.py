"""Runs a study: what is missing of its tuning, the choice, what is missing of its final trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import equipoise
from equipoise.problems import Problem, problem
from equipoise.problems.catalogue import changed, fingerprint, loaded
from equipoise.study import protocols
from equipoise.study.building import balancer
from equipoise.study.environment import environment
from equipoise.study.executors.base import Executor, facts
from equipoise.study.lock import only_driver
from equipoise.study.protocols import Arm
from equipoise.study.rehearsal import steps_of
from equipoise.study.selection import Choice, Measurements, choose, describe
from equipoise.study.spec import Spec, parse
from equipoise.study.store import Store
from equipoise.study.theirs import TheirError, users_code
from equipoise.study.trial import Outcome, Trial


class Listener(Protocol):
    """Is told what happens."""

    def stage(self, name: str, total: int, kept: int) -> None:
        """A stage of ``total`` trials begins, of which ``kept`` were done before."""

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
    with users_code(f"problem {spec.problem!r}"):
        built = problem(spec.problem, **spec.problem_options)
        # Loaded once for all that is asked of it before the first trial, and let go then.
        built = replace(built, data=cache(built.data))
        told = describe(built, spec.device)
    arms = protocols.arms(spec, told["first_losses"])
    refuse_impossible(spec, arms, built)
    del built
    with only_driver(Path(out)), Store(out) as store:
        _adopt(store, spec, told, keep=keep)
        machine = environment()
        # Seed by seed, so that what is paired ran at about the same time, under the same load.
        grids = [trials for arm in arms for trials in protocols.tuning(spec, arm).values()]
        tuning = [trial for seed in zip(*grids, strict=True) for trial in seed]
        _execute("tuning", tuning, store, executor, listener, machine)
        if spec.tuning == "per seed":
            return  # the trials of the best candidates are the final ones
        choices = choose(spec, arms, Measurements(store))
        _execute("final", finals(spec, arms, choices), store, executor, listener, machine)


def finals(spec: Spec, arms: Sequence[Arm], choices: Mapping[str, Choice]) -> list[Trial]:
    """The final trials of every arm for which tuning chose something, seed by seed.

    Runs of one seed are neighbours in time, so that their times are taken under the same load.
    """
    runs = [protocols.final(spec, arm, choices[arm.label].by_seed) for arm in arms]
    return [trial for seed in zip(*runs, strict=True) for trial in seed if trial is not None]


def refuse_impossible(spec: Spec, arms: Sequence[Arm], built: Problem) -> None:
    """Builds every method once, so that a mistake is told before the first trial and not after hours.

    Raises:
        ValueError: a method does not take its options, or does not go with the route.
    """
    names = [task.name for task in built.tasks]
    steps_of(built.source("train"), spec.batch_size)
    for reference, what in ((spec.optimizer, "optimizer"), (spec.schedule, "schedule")):
        if ":" in reference:
            loaded(reference, what)
    for arm in arms:
        for trials in protocols.tuning(spec, arm).values():
            _refuse_impossible(arm, trials[0], names)


def _refuse_impossible(arm: Arm, trial: Trial, names: list[str]) -> None:
    try:
        with users_code(f"method {arm.label!r}"):
            balancer(trial, names)
    except TheirError:
        raise
    except ValueError as error:
        raise ValueError(f"method {arm.label!r}: {error}") from None


def _execute(
    name: str,
    trials: Sequence[Trial],
    store: Store,
    executor: Executor,
    listener: Listener,
    machine: Mapping[str, Any],
) -> None:
    different = list({trial.id: trial for trial in trials}.values())
    missing = store.missing(different)
    listener.stage(name, len(different), len(different) - len(missing))
    here = {**machine, **facts(executor, missing)}
    with closing(executor.run(missing)) as outcomes:
        for trial, outcome in outcomes:
            store.add(trial, outcome, here)
            listener.finished(trial, outcome)


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
        old = parse(before, str(store.path))
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
        if not different and store.get("problem") != told:
            different = ["what the problem says of itself (tasks, metrics, sizes, first losses)"]
        if different and not keep:
            raise ValueError(
                f"{elsewhere} {spec.problem!r} as it was then: {'; '.join(different)}. Old and new trials "
                "cannot be compared: use another --out, or --keep if you know that they can"
            )
        source = {**ran, **source}
    store.set(
        spec=spec.model_dump(mode="json"),
        problem=dict(told),
        fingerprint=source,
        version=equipoise.__version__,
    )
