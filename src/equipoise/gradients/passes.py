"""Backward passes that find gradients and leave nothing behind."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import grad
from torch.autograd.graph import GradientEdge

NO_REENTRANT = (
    "reentrant activation checkpointing hides its parameters and gives no task gradients of them: use "
    "torch.utils.checkpoint.checkpoint(..., use_reentrant=False), or balance at the features with "
    "balancer.share()"
)
_SPARSE = torch.sparse_coo
# A list of gradients, None where a tensor is not reached.
Found = list[Tensor | None]


@contextmanager
def undisturbed(leaves: Sequence[Tensor], sinks: Sequence[Any] = ()) -> Iterator[None]:
    """Nobody is told of the backward passes inside.

    Hooks of parameters are kept for the gradient that is delivered, and DistributedDataParallel does not take
    the first pass for the end of the step (static_graph).

    Args:
        leaves: the parameters whose gradients are found.
        sinks: nodes through which DistributedDataParallel passed its outputs.
    """
    hooks = [
        (leaf._backward_hooks, dict(leaf._backward_hooks))
        for leaf in leaves
        if leaf._backward_hooks
    ]
    waiting = [model for model in map(_waiting, sinks) if model is not None]
    for found, _ in hooks:
        found.clear()
    for model in waiting:
        model._static_graph_delay_allreduce_enqueued = True
    try:
        yield
    except RuntimeError as error:
        raise _explained(error) from error
    finally:
        for model in waiting:
            model._static_graph_delay_allreduce_enqueued = False
        for found, kept in hooks:
            found.update(kept)


def _waiting(sink: Any) -> Any:
    """The model that takes the first backward pass through its sink for the end of the first step."""
    model = sink.ddp_weakref()
    if model is None or not model.static_graph or model._static_graph_delay_allreduce_enqueued:
        return None
    return model


def _explained(error: RuntimeError) -> RuntimeError:
    """What torch says of a graph that cannot be passed several times, with the remedy."""
    said = str(error)
    if "donated buffer" in said:
        return RuntimeError(
            "the compiled part of the model can be passed backward once only, and this route passes it once "
            "a task: set torch._functorch.config.donated_buffer = False before the first call of the "
            "compiled model, or balance at the features with balancer.share()"
        )
    if "Checkpointing is not compatible with .grad()" in said:
        return RuntimeError(NO_REENTRANT)
    return error


def backward(
    loss: Tensor, tensors: Sequence[Tensor | GradientEdge], scale: float, *, keep_graph: bool
) -> Found:
    """The gradient of a loss, times ``scale``, with respect to each tensor."""
    start = None if scale == 1.0 else torch.full_like(loss, scale)
    inputs: list[Any] = list(tensors)
    return list(grad(loss, inputs, start, retain_graph=keep_graph, allow_unused=True))


def through_heads(
    losses: Sequence[Tensor],
    views: Sequence[Sequence[Tensor]],
    own: Sequence[Sequence[Tensor]],
    scale: float,
    *,
    keep_graph: bool,
) -> tuple[list[Found], list[Found]]:
    """One backward pass of all heads.

    Args:
        losses: scalars, one a task.
        views: for each task, the tensors its head read.
        own: for each task, its own parameters.
        scale: what the losses are multiplied with.
        keep_graph: whether the graph outlives the pass.

    Returns:
        For each task the gradients at its views, and those of its parameters.
    """
    inputs = [v for task in views for v in task] + [p for task in own for p in task]
    starts = [torch.full_like(loss, scale) for loss in losses]
    got = iter(grad(list(losses), inputs, starts, retain_graph=keep_graph, allow_unused=True))
    return [[next(got) for _ in task] for task in views], [
        [next(got) for _ in task] for task in own
    ]


def down(
    outputs: Sequence[Tensor | GradientEdge],
    incoming: Found,
    tensors: Sequence[Tensor],
    *,
    keep_graph: bool,
) -> Found:
    """One pass from some outputs down, started with their gradients."""
    pairs = [(f, g) for f, g in zip(outputs, incoming, strict=True) if g is not None]
    starts = [g for _, g in pairs]
    reached: list[Any] = [f for f, _ in pairs]
    return list(grad(reached, list(tensors), starts, retain_graph=keep_graph, allow_unused=True))


def fill(row: Tensor, found: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Writes one task's gradients into its row: one copy, whatever the number of parameters.

    Returns:
        The parameters whose gradients are sparse.
    """
    pieces = [
        row.new_zeros(p.numel() * (2 if p.is_complex() else 1)) if g is None else flat_as(g, row)
        for g, p in zip(found, like, strict=True)
    ]
    torch.cat(pieces, out=row)
    return [p for p, g in zip(like, found, strict=True) if g is not None and g.layout is _SPARSE]


def flat_as(gradient: Tensor, row: Tensor) -> Tensor:
    """A gradient in one row of real numbers, in another tensor's dtype and on its device."""
    if gradient.dtype is row.dtype and gradient.layout is torch.strided:
        return gradient.reshape(-1).to(row.device)
    if gradient.is_sparse:
        gradient = gradient.to_dense()
    if gradient.is_complex():
        gradient = torch.view_as_real(gradient.resolve_conj())
    return gradient.reshape(-1).to(row)


def empty(tasks: int, like: Sequence[Tensor]) -> Tensor:
    """A Jacobian to fill; half precision is widened, since K rows are going to be summed."""
    wide = any(p.dtype in (torch.float64, torch.complex128) for p in like)
    entries = sum(p.numel() * (2 if p.is_complex() else 1) for p in like)
    dtype = torch.float64 if wide else torch.float32
    return torch.empty(tasks, entries, dtype=dtype, device=like[0].device)


def warn_of_overflow() -> None:
    """Tells of task gradients that no loss scale keeps in the range of float16."""
    warnings.warn(
        "a task gradient left the range of float16: this step's gradients are not finite, which a GradScaler "
        "finds and skips; without one, train in bfloat16 or make the losses smaller",
        stacklevel=2,
    )


class LossScale:
    """What losses are multiplied with where float16 is on the way: as much as does not overflow.

    A power of two, so that taking it out again rounds nothing.
    """

    _FIRST = 2.0**16

    def __init__(self) -> None:
        self.value = self._FIRST

    def lower(self) -> bool:
        """Takes less after an overflow; False where there is no less, and the next step starts anew."""
        if self.value == 1.0:
            self.value = self._FIRST
            return False
        self.value = max(self.value / 16, 1.0)
        return True
