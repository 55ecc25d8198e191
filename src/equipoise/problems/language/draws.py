"""How the batches of several data sets are drawn, as an option of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from equipoise.problems.per_task import TaskSampler

Sampling: TypeAlias = str | float | Mapping[str, float]


def drawn(sampling: Sampling, tasks: Sequence[str]) -> Literal["together"] | TaskSampler:
    """What :class:`~equipoise.problems.PerTask` takes.

    Args:
        sampling: ``"together"``; ``"proportional"`` to the numbers of examples; a temperature of these
            shares; or weights by task.
        tasks: all tasks.

    Raises:
        ValueError: it is something else, or a weight is missing or not positive.
    """
    if isinstance(sampling, Mapping):
        weights = sampling.values()
        if set(sampling) != set(tasks) or not all(map(_positive, weights)):
            raise ValueError(
                f"sampling={dict(sampling)} needs a positive number for each of {', '.join(tasks)}"
            )
        return TaskSampler(weights=dict(sampling))
    if sampling == "together":
        return "together"
    if sampling == "proportional":
        return TaskSampler()
    if not isinstance(sampling, str) and _positive(sampling):
        return TaskSampler(temperature=float(sampling))
    raise ValueError(
        f"sampling={sampling!r} is not known: give 'together', 'proportional', a temperature above 0, or "
        "weights by task"
    )


def _positive(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < math.inf
