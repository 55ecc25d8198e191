"""What is settled before a first step, and reminders of calls that never come."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

from equipoise.balance.naming import listed
from equipoise.balance.rule import Rule
from equipoise.gradients.ranks import Ranks
from equipoise.methods.base import BilevelMethod, Card, Method
from equipoise.methods.catalogue import find
from equipoise.methods.catalogue import method as build

# Steps after which a method that waits for a call between them is taken for forgotten.
PATIENCE = 1000


def as_method(
    method: str | Method | Rule, options: dict[str, Any], seed: int | None
) -> Method | Rule:
    """The method of that id; an object as it is.

    Raises:
        ValueError: no such method or option, or options beside an object, or an object without a card.
    """
    if not isinstance(method, str):
        if options or seed is not None:
            given = ", ".join([*options, *(["seed"] if seed is not None else [])])
            raise ValueError(f"{given}: give the options to the method object itself")
        if isinstance(method, Method) and not isinstance(getattr(method, "card", None), Card):
            raise ValueError(
                f"the class {type(method).__name__!r} has no card, which says what the method is: "
                "write card = equipoise.Card(...) into the class"
            )
        return method
    # A seed is always accepted: methods that draw nothing have no use for it.
    if seed is not None and "seed" in inspect.signature(find(method)).parameters:
        options = {**options, "seed": seed}
    return build(method, **options)


def agreed(tasks: tuple[str, ...], ranks: Ranks | None) -> tuple[str, ...]:
    """The tasks of a first call, which have to be the same on all ranks.

    Raises:
        ValueError: they are not.
    """
    if ranks is None:
        return tasks
    said = ranks.agreed(tasks)
    for other in said:
        if other != said[0]:
            raise ValueError(
                f"the processes' first calls bring different tasks, {listed(said[0])} and {listed(other)}; "
                "name every task up front, as in Balancer(..., tasks=[...])"
            )
    return tasks


def reminded(patience: int, method: Method) -> int:
    """Counts a step without the call that a method waits for, and warns once when it never comes."""
    if isinstance(method, BilevelMethod):
        warnings.warn(
            f"'{method.card.id}' learns its weights on validation losses, which balancer(losses) does not "
            "have: they stay where they are. Call balancer.bilevel(inner, outer)",
            stacklevel=2,
        )
        return -1
    if patience == 0:
        warnings.warn(
            f"'{method.card.id}' has taken {PATIENCE} steps without a call of "
            f"balancer.{method.awaits}, and without it its weights never change as published; "
            "see its page for where the call belongs",
            stacklevel=2,
        )
    return patience - 1
