"""The parameters route: exact task gradients of the shared parameters, by one backward pass a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import grad


@dataclass
class TaskGradients:
    """What the backward passes of one step gave.

    Attributes:
        jacobian: ``Tensor[K, P]``, row k the gradient of task k with respect to the shared parameters.
        heads: for each task, the gradient of its own loss with respect to its own parameters.
    """

    jacobian: Tensor
    heads: list[list[Tensor | None]]


def task_gradients(
    losses: Sequence[Tensor],
    shared: Sequence[Tensor],
    own: Sequence[Sequence[Tensor]],
    names: Sequence[str],
    *,
    keep_graph: bool,
) -> TaskGradients:
    """One backward pass a task, through its head and the shared parameters.

    Args:
        losses: K scalars.
        shared: the shared parameters, P entries in all.
        own: for each task, the other parameters it reaches.
        names: of the tasks, for errors.
        keep_graph: whether the graph outlives the last pass.

    Raises:
        ValueError: a loss reaches none of the shared parameters.
    """
    jacobian = _empty(len(losses), shared)
    heads: list[list[Tensor | None]] = []
    for k, loss in enumerate(losses):
        found = grad(
            loss,
            [*shared, *own[k]],
            retain_graph=keep_graph or k + 1 < len(losses),
            allow_unused=True,
        )
        if all(g is None for g in found[: len(shared)]):
            raise ValueError(
                f"the gradient of loss '{names[k]}' is None for every shared parameter: it does not depend "
                "on them (or they are sharded, where only the features route works). Leave the loss out of "
                "the balancer and add it to the result"
            )
        _fill(jacobian[k], found[: len(shared)], shared)
        heads.append(list(found[len(shared) :]))
    return TaskGradients(jacobian, heads)


def task_gradients_from_features(
    losses: Sequence[Tensor],
    views: Sequence[Sequence[Tensor]],
    features: Sequence[Tensor],
    shared: Sequence[Tensor],
    own: Sequence[Sequence[Tensor]],
    *,
    keep_graph: bool,
) -> TaskGradients:
    """All heads in one backward pass, then one pass a task from the shared features down.

    Args:
        losses: K scalars.
        views: for each task, the tensors its head read.
        features: the tensors the views were taken of.
        shared: the shared parameters, P entries in all.
        own: for each task, the other parameters it reaches.
        keep_graph: whether the graph outlives the last pass.
    """
    inputs = [view for task in views for view in task] + [leaf for task in own for leaf in task]
    found = list(grad(list(losses), inputs, retain_graph=keep_graph, allow_unused=True))
    upstream = [[found.pop(0) for _ in task] for task in views]
    heads: list[list[Tensor | None]] = [[found.pop(0) for _ in task] for task in own]
    jacobian = _empty(len(losses), shared)
    for k, incoming in enumerate(upstream):
        pairs = [(f, g) for f, g in zip(features, incoming, strict=True) if g is not None]
        down = grad(
            [f for f, _ in pairs],
            list(shared),
            [g for _, g in pairs],
            retain_graph=keep_graph or k + 1 < len(losses),
            allow_unused=True,
        )
        _fill(jacobian[k], down, shared)
    return TaskGradients(jacobian, heads)


def weighted_gradients(
    stacked: Tensor,
    weights: Tensor,
    factors: Tensor,
    shared: Sequence[Tensor],
    own: Sequence[Tensor],
    *,
    keep_graph: bool,
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Shared gradients of the weighted sum, and the others' of the sum with ``factors``.

    For weights that are known before the backward pass: one pass through the shared parameters.

    Args:
        stacked: the losses ``Tensor[K]`` with their graph.
        weights: of the shared parameters' gradients, ``Tensor[K]``.
        factors: of the others', ``Tensor[K]``.
        shared: the shared parameters.
        own: the others.
        keep_graph: whether the graph outlives the last pass.
    """
    combined = grad(
        (weights.to(stacked) * stacked).sum(),
        list(shared),
        retain_graph=keep_graph or bool(own),
        allow_unused=True,
    )
    if not own:
        return list(combined), []
    plain = grad(
        (factors.to(stacked) * stacked).sum(), list(own), retain_graph=keep_graph, allow_unused=True
    )
    return list(combined), list(plain)


def heads(
    own: Sequence[Sequence[Tensor]],
    gradients: Sequence[Sequence[Tensor | None]],
    factors: Sequence[float],
) -> dict[Tensor, Tensor]:
    """The gradient of every parameter that is not shared, each task's times its factor."""
    out: dict[Tensor, Tensor] = {}
    for leaves, of_task, factor in zip(own, gradients, factors, strict=True):
        for leaf, gradient in zip(leaves, of_task, strict=True):
            if gradient is None:
                continue
            scaled = gradient if factor == 1.0 else gradient * factor
            out[leaf] = scaled if leaf not in out else out[leaf] + scaled
    return out


def split(flat: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Cuts ``Tensor[P]`` into the shapes of the parameters."""
    pieces = torch.split(flat, [p.numel() for p in parameters])
    return [g.view(p.shape).to(p.dtype) for g, p in zip(pieces, parameters, strict=True)]


def _empty(tasks: int, shared: Sequence[Tensor]) -> Tensor:
    """A Jacobian to fill; half precision is widened, since K rows are going to be summed."""
    dtype = torch.float32
    if any(p.dtype == torch.float64 for p in shared):
        dtype = torch.float64
    return torch.empty(tasks, sum(p.numel() for p in shared), dtype=dtype, device=shared[0].device)


def _fill(row: Tensor, found: Sequence[Tensor | None], shared: Sequence[Tensor]) -> None:
    """Writes one task's gradients into its row: one copy, whatever the number of parameters."""
    pieces = [
        row.new_zeros(p.numel()) if g is None else g.reshape(-1).to(row.dtype)
        for g, p in zip(found, shared, strict=True)
    ]
    torch.cat(pieces, out=row)


class Deliver(torch.autograd.Function):
    """A scalar whose backward leaves given gradients, times the incoming scale, in the parameters."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor | None], *_: Tensor) -> Tensor:
        """Keeps the gradients for the backward pass."""
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        """Hands them on."""
        unscaled = scale.device.type == "cpu" and scale.item() == 1.0
        return (
            None,
            None,
            *(g if g is None or unscaled else g * scale.to(g.dtype) for g in ctx.gradients),
        )


_deliver: Any = Deliver.apply


def deliver(value: Tensor, parameters: list[Tensor], gradients: list[Tensor | None]) -> Tensor:
    """The scalar ``value`` with the given gradients behind it."""
    out: Tensor = _deliver(value, gradients, *parameters)
    return out


def write(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Adds the gradients to ``.grad``."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        if parameter.grad is None:
            parameter.grad = gradient
        else:
            parameter.grad += gradient
