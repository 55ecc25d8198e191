"""One way to hand gradients over: a scalar whose backward pass leaves them in the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from equipoise.gradients import host
from equipoise.gradients.graph import reached


class Delivery:
    """Gradients, and the parameters they are for.

    Attributes:
        leaves: the parameters.
        gradients: one each; None for a parameter that is not reached.
        sinks: nodes of DistributedDataParallel that have to be told that a backward pass came by.
        once: whether the gradients are handed over once only, and need not be kept.
    """

    def __init__(
        self,
        leaves: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        sinks: Sequence[Any] = (),
        *,
        once: bool = False,
    ) -> None:
        self.leaves = list(leaves)
        self.gradients = [
            g if g is None else _in_layout(g, leaf)
            for g, leaf in zip(gradients, leaves, strict=True)
        ]
        self.sinks = list(sinks)
        self.once = once

    def behind(self, value: Tensor) -> Tensor:
        """The scalar ``value`` with these gradients behind it, beside any that it has already."""
        out: Tensor = _deliver(value, self, *self.leaves)
        return out


class _Deliver(torch.autograd.Function):
    """The identity on a scalar; its backward pass hands given gradients to the parameters."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, delivery: Delivery, *leaves: Tensor) -> Tensor:
        """Keeps the gradients for the backward pass; the parameters are not touched."""
        ctx.delivery = delivery
        return value.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        """Hands them on, times the incoming factor (loss scaling, accumulation)."""
        refuse_double_backward()
        delivery = ctx.delivery
        for sink in delivery.sinks:
            sink.apply(*[None] * len(sink._input_metadata))
        if host.at_hand(scale) and host.number(scale) == 1.0:
            gradients = delivery.gradients
            if delivery.once:
                ctx.delivery = delivery.gradients = None
        else:
            gradients = [
                g if g is None else g * scale.to(g.dtype if not g.is_complex() else scale.dtype)
                for g in delivery.gradients
            ]
        return scale, None, *gradients


_deliver: Any = _Deliver.apply


def zeros_behind(total: Tensor, left_out: Sequence[Tensor], present: Sequence[Tensor]) -> Tensor:
    """The scalar, with zero gradients behind it for what only the losses left out would have reached.

    DistributedDataParallel waits for a gradient of every parameter that its outputs depend on.
    """
    kept, gone = reached(present), reached(left_out)
    there = set(kept.common).union(*kept.own)
    everything = dict.fromkeys(chain(gone.common, *gone.own))
    leaves = [p for p in everything if p not in there]
    return Delivery(leaves, [torch.zeros_like(p) for p in leaves], gone.sinks).behind(total)


def refuse_double_backward() -> None:
    """Raises where a backward pass is to be differentiated itself.

    Raises:
        RuntimeError: it is (``create_graph=True``).
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the balanced loss cannot be differentiated twice on this route: its gradients are found, not "
            "derived. Call backward() without create_graph=True; take a gradient penalty of the single "
            "losses, before balancer(losses), or use a method that looks at losses only"
        )


def _in_layout(gradient: Tensor, leaf: Tensor) -> Tensor:
    """The gradient in the dtype of its parameter and on its device."""
    if gradient.dtype == leaf.dtype and gradient.device == leaf.device:
        return gradient
    return gradient.to(device=leaf.device, dtype=leaf.dtype)
