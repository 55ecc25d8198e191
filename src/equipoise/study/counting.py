"""Counts what a training run spends: rows forwarded, and backward passes through the whole network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from equipoise.problems.nesting import tensors


class Counter:
    """Counts the passes of one network.

    Attributes:
        forwards: forward passes.
        rows: examples in them.
        backwards: gradients that came to the bottom of the network, the module with parameters that a forward
            pass calls first: they went through all of it.
    """

    def __init__(self) -> None:
        self.forwards = 0
        self.rows = 0
        self.backwards = 0
        self._at_bottom = False

    def forward(self, rows: int) -> None:
        """Counts a forward pass that is about to come."""
        self.forwards += 1
        self.rows += rows
        self._at_bottom = True

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Counts backward passes while it lasts."""
        hooks = [
            module.register_forward_hook(self._called)
            for module in model.modules()
            if any(p.requires_grad for p in module.parameters(recurse=False))
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _called(self, _: nn.Module, __: Any, output: Any) -> None:
        if not self._at_bottom:
            return
        reached = next((t for t in tensors(output) if t.requires_grad), None)
        if reached is not None:
            self._at_bottom = False
            reached.register_hook(self._passed)  # type: ignore[no-untyped-call]

    def _passed(self, _: Tensor) -> None:
        self.backwards += 1


def fast(times: list[float]) -> float:
    """The time under which a tenth of the steps stayed: what else the machine did disturbs it least."""
    return sorted(times)[len(times) // 10] if times else math.nan
