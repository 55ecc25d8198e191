"""Builds everything of a study once, before its first trial: a mistake is told then and not after hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from equipoise.problems import problem
from equipoise.problems.catalogue import loaded
from equipoise.study.arms import Arm, arms
from equipoise.study.building import balancer
from equipoise.study.plans import Plan, plans
from equipoise.study.rehearsal import steps_of
from equipoise.study.selection import Measurements, describe
from equipoise.study.spec import Spec
from equipoise.study.store import Store
from equipoise.study.theirs import TheirError, users_code
from equipoise.study.trial import Trial, with_options


@dataclass(frozen=True)
class Setting:
    """A study at one setting of what it sweeps, looked at before its first trial.

    Attributes:
        name: what tells it from the other settings.
        spec: the study there.
        told: what the problem says of itself there.
        arms: of the comparison.
        steps: of an epoch.
    """

    name: str
    spec: Spec
    told: Mapping[str, Any]
    arms: Sequence[Arm]
    steps: int

    @property
    def options(self) -> str:
        """The options of the problem, by which a store knows it."""
        return with_options(self.spec.problem_options)

    def plans(self, store: Store | None = None) -> dict[str, Plan]:
        """What each arm tries and chooses, as far as it is known."""
        return plans(self.spec, self.arms, Measurements(self.told, store))


def prepared(spec: Spec) -> list[Setting]:
    """Builds everything of a study once: a mistake is told before the first trial and not after hours.

    Raises:
        ValueError: the study makes no sense.
    """
    settings = []
    for name, own in spec.settings().items():
        told, steps = rehearsed(own)
        if own.checkpoint != "last":
            refuse_criterion("checkpoint", own.checkpoint, told, "'last'")
        known = [f"{each['task']}/{each['metric']}" for each in told["measures"]]
        for metric in own.near_zero:
            if metric not in known:
                raise ValueError(
                    f"near_zero names {metric!r}, which is no metric of the problem: {', '.join(known)}"
                )
        setting = Setting(name, own, told, arms(own, told["first_losses"]), steps)
        _refuse_impossible(setting)
        settings.append(setting)
    return settings


def rehearsed(spec: Spec) -> tuple[dict[str, Any], int]:
    """What the problem of a study says of itself, and the steps of an epoch.

    Raises:
        ValueError: the problem or the device cannot be used.
    """
    refuse_device(spec.device)
    with users_code(f"problem {spec.problem!r}"):
        built = problem(spec.problem, **spec.problem_options)
        # Loaded once for all that is asked of it before the first trial, and let go then.
        built = replace(built, data=cache(built.data))
        told = describe(built, spec.device)
    return told, steps_of(built.source("train"), spec.batch_size)


def refuse_criterion(key: str, by: str, told: Mapping[str, Any], *more: str) -> None:
    """Refuses a criterion that the problem does not have.

    Args:
        key: that names it.
        by: the criterion.
        told: what the problem says of itself.
        more: that may be named too.

    Raises:
        ValueError: there is none.
    """
    known = [f"{each['task']}/{each['metric']}" for each in told["measures"]]
    known += [f"{task}/loss" for task in told["first_losses"]]
    if by not in ("loss", *known):
        first = ", ".join([*more, "'loss'"])
        raise ValueError(f"{key} = {by!r} is no criterion: {first}, or one of {', '.join(known)}")


def refuse_device(device: str) -> None:
    """Refuses a device that cannot be used on this machine.

    Raises:
        ValueError: it cannot.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ValueError(
            f"device = {device!r} is none that torch knows; take 'cpu', 'cuda', or 'cuda:1'"
        ) from None
    try:
        if kind == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(0, device=device)
    except Exception as error:  # noqa: BLE001
        # Whatever a back end raises where there is no such device.
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"device = {device!r} cannot be used on this machine ({why}); take 'cpu'"
        ) from None


def _refuse_impossible(setting: Setting) -> None:
    """Builds every method once.

    Raises:
        ValueError: a method does not take its options, or does not go with the route.
    """
    spec = setting.spec
    names = list(setting.told["first_losses"])
    for reference, what in ((spec.optimizer, "optimizer"), (spec.schedule, "schedule")):
        if ":" in reference:
            loaded(reference, what)
    for label, plan in setting.plans().items():
        # One trial for every set of options: a mistake may be in one of the values that are tried.
        tried = {own[0].method_options: own[0] for own in plan.tried[0].values()}
        for trial in tried.values():
            refuse_method(label, trial, names)


def refuse_method(label: str, trial: Trial, names: list[str]) -> None:
    """Builds a method over these tasks, and names it in what is wrong with it.

    Raises:
        ValueError: it does not take its options, or does not go with the route.
    """
    try:
        with users_code(f"method {label!r}"):
            balancer(trial, names)
    except TheirError:
        raise
    except ValueError as error:
        raise ValueError(f"method {label!r}: {error}") from None
    except (TypeError, AttributeError) as error:
        given = {**trial.options(), **trial.arguments_given()}
        raise ValueError(
            f"method {label!r} cannot be built with {given}: a value is of a wrong kind ({error})"
        ) from None
