"""Losses by name: which tasks a call has, in which order, and the mistakes people make with losses."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Losses: TypeAlias = "Mapping[str, Tensor | None] | Sequence[Tensor | None] | Tensor"


def named(losses: Losses, tasks: tuple[str, ...] | None) -> dict[str, Tensor]:
    """The losses that are present, by name, in the order of ``tasks``.

    Raises:
        ValueError: an unknown task, a wrong number of losses, or a loss that is no scalar.
        TypeError: a loss that is no tensor.
    """
    if isinstance(losses, Mapping):
        given: Mapping[str, Tensor | None] = losses
    else:
        entries = list(losses)
        if tasks is not None and len(entries) != len(tasks):
            raise ValueError(
                f"{len(entries)} losses were given for the {len(tasks)} tasks {listed(tasks)}; put None "
                "in the place of a task that is absent, or pass a mapping from task to loss"
            )
        given = dict(zip(tasks or map(str, range(len(entries))), entries, strict=True))
    if tasks is None:
        return {name: checked(name, loss) for name, loss in given.items() if loss is not None}
    known = [name for name in tasks if given.get(name) is not None]
    if len(known) < len(given):
        for name in given:
            if name not in tasks:
                near = difflib.get_close_matches(str(name), tasks, n=1)
                hint = f" (did you mean '{near[0]}'?)" if near else ""
                raise ValueError(
                    f"loss '{name}' belongs to no task{hint}: the tasks are {listed(tasks)}; name every task "
                    "up front, as in Balancer(..., tasks=[...]), if some come only later"
                )
    return {name: checked(name, given[name]) for name in known}


def checked(name: str, loss: Tensor | None) -> Tensor:
    """The loss as a scalar tensor.

    Raises:
        TypeError: it is no tensor.
        ValueError: it has more than one entry, or is complex.
    """
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"loss '{name}' is a {type(loss).__name__}, not a tensor: it lost its graph through .item() or "
            "float(); pass the loss tensor itself (or None when the task is absent)"
        )
    if not loss.is_floating_point():
        raise ValueError(
            f"loss '{name}' is of {loss.dtype}; a loss is a real number, for example its .abs() or .real"
        )
    if loss.ndim == 0:
        return loss
    if loss.numel() != 1:
        raise ValueError(
            f"loss '{name}' has shape {tuple(loss.shape)}; reduce it to a scalar first, for example by "
            ".mean()"
        )
    return loss.reshape(())


def require_graph(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Raises for a loss that cannot be differentiated; leaves out constant zeros, with a warning.

    Raises:
        ValueError: a loss has no graph.
    """
    if all(loss.requires_grad for loss in losses.values()):
        return losses
    if not torch.is_grad_enabled():
        raise ValueError(
            "the balancer was called in training mode under torch.no_grad(); call balancer.eval() for "
            "validation, or leave no_grad"
        )
    present = {}
    for name, loss in losses.items():
        if loss.requires_grad:
            present[name] = loss
        elif loss.item() == 0:
            warnings.warn(
                f"loss '{name}' is a constant 0 without a graph; it is taken as absent in this step. "
                "Leave the task out, or pass None, to say so",
                stacklevel=2,
            )
        else:
            raise ValueError(
                f"loss '{name}' has no graph: it was detached, or built with torch.tensor(); pass the loss "
                "tensor itself"
            )
    return present


def listed(names: Sequence[str]) -> str:
    """The names in quotes."""
    return ", ".join(f"'{name}'" for name in names)


def names_of(losses: Losses) -> tuple[str, ...]:
    """The tasks that a first call brings, in its order."""
    if isinstance(losses, Mapping):
        return tuple(losses)
    if isinstance(losses, Tensor) and losses.ndim != 1:
        refuse_tensor(losses, "", stacked=True)
    return tuple(map(str, range(len(losses))))


def refuse_tensor(losses: Losses, method: str, stacked: bool) -> None:
    """Raises where one tensor is given for all losses, and that will not do.

    Raises:
        ValueError: it is not one-dimensional, or ``stacked`` tensors are not taken.
    """
    if not isinstance(losses, Tensor) or (losses.ndim == 1 and stacked):
        return
    what = (
        f"'{method}' would differentiate it once per task, K passes through "
        "all K heads, and one NaN would spread to every task"
        if losses.ndim == 1
        else f"it has shape {tuple(losses.shape)}"
    )
    raise ValueError(
        f"the losses are one tensor: {what}; pass them separately, as {{'name': loss, ...}}"
    )


def refuse_small(
    names: Sequence[str], values: Sequence[float], who: str, least: str, when: str
) -> None:
    """Raises for a loss that is negative, or 0 where that will not do either.

    Raises:
        ValueError: naming the task.
    """
    low = min(values)
    if low > 0 or (low == 0 and least == "zero"):
        return
    name = names[list(values).index(low)]
    needs = "positive losses" if least == "above_zero" else "losses that are not negative"
    raise ValueError(
        f"loss '{name}' is {low:.4g}{when}, but {who} needs {needs}; add a constant to it, or choose a "
        "method that takes any"
    )


def refuse_below_one(names: Sequence[str], values: Sequence[float], who: str, when: str) -> None:
    """Raises for a loss whose logarithm is negative, where the method takes none that is.

    Raises:
        ValueError: naming the task.
    """
    low = min(values)
    if 0 < low < 1:
        raise ValueError(
            f"the logarithm of loss '{names[list(values).index(low)]}' is {math.log(low):.4g}{when}, but "
            f"{who} needs losses that are not negative; use it without transform='log'"
        )
