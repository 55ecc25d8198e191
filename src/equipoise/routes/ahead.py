"""Looking ahead: gradients after a few virtual steps, with the parameters put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd import grad

from equipoise.routes.graph import reached
from equipoise.routes.parameters import task_gradients

# A virtual step that overshoots this far has left the region where looking ahead means anything.
_DIVERGED = 1e5


def trainable(losses: Sequence[Tensor]) -> list[Tensor]:
    """Every parameter that the losses reach."""
    common, own = reached(losses)
    found = dict.fromkeys([*common, *(leaf for of_task in own for leaf in of_task)])
    return [leaf for leaf in found if isinstance(leaf, nn.Parameter)]


@contextmanager
def restored(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Whatever is done to the parameters inside, they end as they began, and so does ``.grad``."""
    kept = [p.data for p in parameters]
    try:
        yield
    finally:
        for parameter, data in zip(parameters, kept, strict=True):
            parameter.data = data


def moved(parameters: Sequence[Tensor], direction: Sequence[Tensor | None], rate: float) -> None:
    """Steps against a direction, on copies: a graph built before keeps its own values."""
    for parameter, step in zip(parameters, direction, strict=True):
        if step is not None:
            parameter.data = parameter.data - rate * step


def jacobian(losses: Sequence[Tensor], parameters: Sequence[Tensor]) -> Tensor:
    """The gradient of every loss with respect to all parameters, ``Tensor[K, P]``."""
    nothing: list[list[Tensor]] = [[] for _ in losses]
    names = [str(k) for k in range(len(losses))]
    return task_gradients(losses, parameters, nothing, names, keep_graph=False).jacobian


def after_descent(
    inner: Callable[[], list[Tensor]],
    parameters: Sequence[Tensor],
    weights: Tensor,
    rate: float,
    steps: int,
) -> None:
    """Moves the parameters by plain gradient steps on the weighted inner losses."""
    for _ in range(steps):
        losses = torch.stack(inner())
        total = torch.dot(weights.to(losses), losses)
        if not total.item() < _DIVERGED:
            return
        moved(parameters, grad(total, list(parameters), allow_unused=True), rate)
