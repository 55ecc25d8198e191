"""Looking ahead: losses and gradients at other parameters, with everything put back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_pre_hook

from equipoise.gradients.base import cut
from equipoise.gradients.graph import reached
from equipoise.gradients.passes import backward, empty, fill, undisturbed
from equipoise.gradients.ranks import Ranks
from equipoise.gradients.step import Step

# A virtual step that overshoots this far has left the region where looking ahead means anything.
_DIVERGED = 1e5


@contextmanager
def untouched() -> Iterator[None]:
    """Batch-norm statistics and random generators end as they began."""
    kept: dict[nn.Module, dict[str, Tensor]] = {}

    def keep(module: nn.Module, _: Any) -> None:
        if isinstance(module, _NormBase) and module not in kept:
            kept[module] = {name: b.clone() for name, b in module.named_buffers(recurse=False)}

    hook = register_module_forward_pre_hook(keep)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        hook.remove()
        with torch.no_grad():
            for module, buffers in kept.items():
                for name, buffer in buffers.items():
                    module.get_buffer(name).copy_(buffer)


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


class Ahead:
    """The parameters that a step's losses reach, and gradients with respect to them.

    Args:
        losses: of the step.
        ranks: the processes that train together, if there are several.
    """

    def __init__(self, losses: Sequence[Tensor], ranks: Ranks | None) -> None:
        got = reached(losses)
        found = dict.fromkeys([*got.common, *(leaf for own in got.own for leaf in own)])
        self.parameters: list[Tensor] = [p for p in found if isinstance(p, nn.Parameter)]
        self.sinks = got.sinks
        self._ranks = ranks

    def jacobian(self, losses: Sequence[Tensor], *, keep_graph: bool = False) -> Tensor:
        """The gradient of every loss with respect to all parameters, ``Tensor[K, P]``."""
        out = empty(len(losses), self.parameters)
        with undisturbed(self.parameters, self.sinks):
            for k, loss in enumerate(losses):
                keep = keep_graph or k + 1 < len(losses)
                fill(out[k], backward(loss, self.parameters, 1.0, keep_graph=keep), self.parameters)
        return out if self._ranks is None else self._ranks.mean(out)

    def descend(self, inner: Callable[[], Step], weights: Tensor, rate: float, steps: int) -> None:
        """Moves the parameters by plain gradient steps on the weighted inner losses."""
        for _ in range(steps):
            step = inner()
            if not torch.dot(weights.to(step.values), step.values).item() < _DIVERGED:
                return
            row = self.jacobian([step.weighted(weights)])[0]
            moved(self.parameters, cut(row, self.parameters), rate)
