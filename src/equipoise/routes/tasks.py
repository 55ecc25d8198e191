"""Which tasks are in a step: names, order, absence, and the mistakes people make with losses."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

Losses: TypeAlias = "Mapping[str, Tensor | None] | Sequence[Tensor | None] | Tensor"


@dataclass
class Step:
    """The losses of one call, in the order of the balancer's tasks.

    Attributes:
        names: tasks present.
        tensors: their losses, scalars that carry the graph.
        stacked: the same as ``Tensor[k]``.
        index: positions of the present tasks among all tasks; None when every task is present.
        number: of the step, from 0.
        values: ``stacked``, detached: what the method sees.
        raw: the losses as they were given, detached.
    """

    names: tuple[str, ...]
    tensors: list[Tensor]
    stacked: Tensor
    index: Tensor | None
    number: int

    def __post_init__(self) -> None:
        self.values = self.stacked.detach()
        self.raw = self.values

    def keep(self, mask: list[bool], tasks: tuple[str, ...]) -> Step:
        """The same step with the tasks only where ``mask`` is true."""
        pairs = [(n, t) for n, t, m in zip(self.names, self.tensors, mask, strict=True) if m]
        return step_of(dict(pairs), tasks, self.number)

    def without_graph(self) -> Step:
        """The same step, holding nothing that would keep a graph alive."""
        step = Step(self.names, [], self.values, self.index, self.number)
        step.raw = self.raw
        return step

    def logarithmic(self) -> Step:
        """The step of the losses' logarithms; ``raw`` stays what the losses were."""
        tensors = [t.log() for t in self.tensors]
        step = Step(self.names, tensors, torch.stack(tensors), self.index, self.number)
        step.raw = self.raw
        return step


def named(losses: Losses, tasks: tuple[str, ...] | None) -> dict[str, Tensor]:
    """The losses that are present, by name, in the order of ``tasks``.

    Raises:
        ValueError: an unknown task, a wrong number of losses, or no loss at all.
        TypeError: a loss that is no tensor.
    """
    if isinstance(losses, Mapping):
        given: Mapping[str, Tensor | None] = losses
    else:
        entries = list(losses)
        if tasks is not None and len(entries) != len(tasks):
            raise ValueError(
                f"{len(entries)} losses were given for the {len(tasks)} tasks {_list(tasks)}; put None "
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
                    f"loss '{name}' belongs to no task{hint}: the tasks are {_list(tasks)}; name every task "
                    "up front, as in Balancer(..., tasks=[...]), if some come only later"
                )
    return {name: checked(name, given[name]) for name in known}


def checked(name: str, loss: Tensor | None) -> Tensor:
    """The loss as a scalar tensor.

    Raises:
        TypeError: it is no tensor.
        ValueError: it has more than one entry.
    """
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"loss '{name}' is a {type(loss).__name__}, not a tensor: it lost its graph through .item() or "
            "float(); pass the loss tensor itself (or None when the task is absent)"
        )
    if loss.ndim == 0:
        return loss
    if loss.numel() != 1:
        raise ValueError(
            f"loss '{name}' has shape {tuple(loss.shape)}; reduce it to a scalar first, for example by "
            ".mean()"
        )
    return loss.reshape(())


def step_of(losses: dict[str, Tensor], tasks: tuple[str, ...], number: int = 0) -> Step:
    """Stacks the losses, which are in the order of ``tasks``."""
    tensors = list(losses.values())
    names = tuple(losses)
    device = tensors[0].device
    if any(t.device != device for t in tensors):
        tensors = [t.to(device) for t in tensors]
    index = None
    if len(names) < len(tasks):
        index = torch.tensor([tasks.index(name) for name in names])
    return Step(names, tensors, torch.stack(tensors), index, number)


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
                stacklevel=4,
            )
        else:
            raise ValueError(
                f"loss '{name}' has no graph: it was detached, or built with torch.tensor(); pass the loss "
                "tensor itself"
            )
    return present


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
