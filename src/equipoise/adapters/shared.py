"""What all adapters need to know of a balancer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from equipoise.balance import Balancer
from equipoise.diagnosis import Monitor
from equipoise.methods.base import Method


def balancer_of(model: object, given: Balancer | None) -> Balancer:
    """The balancer that was given, or the one that is part of the model.

    Args:
        model: that may have it as ``model.balancer``.
        given: outright; None looks at the model.

    Raises:
        ValueError: there is none.
    """
    found = getattr(model, "balancer", None) if given is None else given
    if not isinstance(found, Balancer):
        raise ValueError(
            f"{type(model).__name__} has no balancer: give one, balancer=Balancer(...), or set "
            "self.balancer = Balancer(...) in the model"
        )
    return found


def metrics_of(balancer: Balancer, monitor: Monitor | None) -> dict[str, float]:
    """All there is to log, flat."""
    return balancer.metrics() | ({} if monitor is None else monitor.metrics())


def looks_again(balancer: Balancer) -> bool:
    """Whether the method wants the losses of the batch once more, after the optimiser step."""
    return type(balancer.method).after_step is not Method.after_step


def watched(balancer: Balancer, monitor: Monitor) -> RemovableHandle:
    """Shows the monitor the losses of every training call, before they are balanced."""

    def look(module: nn.Module, given: tuple[Any, ...]) -> None:
        if module.training and given:
            monitor(given[-1])

    return balancer.register_forward_pre_hook(look)


def groups_left(
    balancer: Balancer, optimizers: Iterable[torch.optim.Optimizer], options: dict[str, Any]
) -> list[dict[str, Any]]:
    """The groups of learnable weights that no optimiser has yet.

    Args:
        balancer: whose weights they are.
        optimizers: all there are.
        options: of the groups, such as ``lr``.
    """
    taken = {
        id(p)
        for optimizer in optimizers
        for group in optimizer.param_groups
        for p in group["params"]
    }
    groups = balancer.param_groups(**options)
    return [group for group in groups if not taken.issuperset(map(id, group["params"]))]


def keep_from_ddp(model: nn.Module, balancer: Balancer) -> None:
    """Has DistributedDataParallel leave the weights alone that a balancer inside the model learns.

    The losses reach them after ``forward``, where DDP that looks for unused parameters stops at them. Their
    gradients are those of the whole batch in every process already, unless each balances for itself.

    Args:
        model: before it is wrapped.
        balancer: perhaps inside.
    """
    learned = {id(p) for p in balancer.parameters()}
    inside = [name for name, p in model.named_parameters() if id(p) in learned]
    if inside and balancer._options.sync != "local":
        others = getattr(model, "_ddp_params_and_buffers_to_ignore", [])
        ddp: Any = nn.parallel.DistributedDataParallel
        ddp._set_params_and_buffers_to_ignore_for_model(model, [*others, *inside])


def built(name: str, own: type, base: type) -> type:
    """A class with the methods of ``own`` on a base that another library has."""
    return type(name, (own, base), {"__doc__": own.__doc__, "__module__": own.__module__})
