"""Builds what a trial names: its balancer, its optimiser, its schedule."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

import equipoise
from equipoise.methods.base import Method
from equipoise.problems.catalogue import loaded, refuse_options
from equipoise.study.trial import SINGLE_TASK, Trial


def method_of(name: str, options: Mapping[str, Any]) -> Method:
    """A method of the catalogue, or of a class of yours (``"my_method.py:Largest"``).

    Raises:
        ValueError: there is none, or it does not take these options.
    """
    if ":" not in name:
        return equipoise.method(name, **options)
    kind = loaded(name, "method")
    if not (inspect.isclass(kind) and issubclass(kind, Method)):
        raise ValueError(
            f"{name!r} is no method: derive the class from equipoise.LossMethod, GramianMethod or "
            "JacobianMethod"
        )
    refuse_options(kind, options, repr(name))
    return kind(**options)


def balancer(trial: Trial, names: list[str]) -> equipoise.Balancer | None:
    """The balancer of a trial over these tasks; None for a single-task trial.

    Raises:
        ValueError: no such method or option, or the method does not go with the route.
    """
    if trial.method == SINGLE_TASK:
        return None
    arguments = trial.arguments_given()
    method = method_of(trial.method, trial.options())
    route: Any = arguments.pop("route", trial.route)
    # Methods with one route of their own take it, whatever the study asks of the others.
    if route not in method.routes:
        route = "auto"
    weight_sum: Any = arguments.pop("weight_sum", trial.weight_sum)
    # By its id where it has one, so that it draws from the seed; one of yours draws from torch's, which is
    # set in every step.
    own = ":" in trial.method
    given: Any = method if own else trial.method
    options = {} if own else {**trial.options(), "seed": trial.seed}
    try:
        return equipoise.Balancer(
            given,
            tasks=names,
            route=route,
            weight_sum=weight_sum,
            **arguments,
            **options,
        )
    except TypeError as error:
        raise ValueError(f"{trial.method!r}: {error}") from None


def optimizer(trial: Trial, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """The optimiser of a trial: ours, or what ``"package:factory"`` makes of the groups.

    A factory is called with the parameter groups, ``lr=`` and ``weight_decay=``.

    Raises:
        ValueError: the factory is not there, or makes something else.
    """
    rate, decay = trial.learning_rate, trial.weight_decay
    if trial.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, weight_decay=decay)
    if trial.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay)
    made = loaded(trial.optimizer, "optimizer")(groups, lr=rate, weight_decay=decay)
    if not isinstance(made, torch.optim.Optimizer):
        raise ValueError(f"{trial.optimizer!r} made a {type(made).__name__}, not an optimiser")
    return made


def schedule(trial: Trial, made: torch.optim.Optimizer, steps: int) -> Callable[[], None]:
    """What is called after each step: ours, or what ``"package:factory"`` makes of optimiser and steps."""
    if trial.schedule == "constant":
        return lambda: None
    if trial.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(made, steps).step
    own: Any = loaded(trial.schedule, "schedule")(made, steps)
    step: Callable[[], None] = own.step
    return step
