"""Methods that draw: a generator of their own, also inside compiled steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from equipoise.methods.base import Method

# Methods that draw, by number: a compiled step can hold a number, but no generator.
_DRAWING: WeakValueDictionary[int, Random] = WeakValueDictionary()
_NUMBERS = count()


class Random(Method):
    """A generator of its own for a method that draws, saved and restored with the method's state.

    Args:
        seed: where the draws start; None takes the seed of torch's default generator, so that
            ``torch.manual_seed`` governs them without their disturbing it.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.generator = torch.Generator().manual_seed(
            torch.initial_seed() if seed is None else seed
        )
        super().__init__()
        self._enlist()

    def _enlist(self) -> None:
        self._number = next(_NUMBERS)
        _DRAWING[self._number] = self

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._enlist()

    def drawn(self, shape: Sequence[int], which: str = "draw") -> Tensor:
        """Random numbers of ``shape``, on the CPU in float64.

        Args:
            shape: of the result.
            which: the name of the function of ``shape`` that draws.
        """
        if torch.compiler.is_compiling():
            compiled: Tensor = _draw(self._number, list(shape), which)
            return compiled
        draw: Callable[[torch.Size], Tensor] = getattr(self, which)
        return draw(torch.Size(shape))

    def uniform(self, shape: torch.Size) -> Tensor:
        """Uniform numbers in [0, 1)."""
        return torch.rand(shape, generator=self.generator, dtype=torch.float64)

    def _written(self) -> dict[str, Tensor]:
        return {**super()._written(), "generator_state": self.generator.get_state()}

    def _read_back(self, written: Mapping[str, Tensor]) -> None:
        super()._read_back(written)
        self.generator.set_state(written["generator_state"].cpu())


@torch.library.custom_op("equipoise::draw", mutates_args=())
def _draw(number: int, shape: list[int], which: str) -> Tensor:
    """Draws for the method of that number."""
    draw: Callable[[torch.Size], Tensor] = getattr(_DRAWING[number], which)
    return draw(torch.Size(shape))


@_draw.register_fake
def _(number: int, shape: list[int], which: str) -> Tensor:
    return torch.empty(shape, dtype=torch.float64)
