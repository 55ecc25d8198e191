"""The multi-layer perceptron over columns of numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from equipoise.nn import Trunk


class Numbers(nn.Module):
    """Turns whole numbers, such as the bits of a fingerprint, into the floats that layers take."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Floats of the same shape."""
        return inputs.float()


def perceptron(
    inputs: int,
    widths: Sequence[int],
    dropout: float = 0.0,
    first: Callable[[], nn.Module] = Numbers,
) -> Trunk:
    """Layers with ReLU, as a trunk of one stage each.

    Args:
        inputs: number of them.
        widths: of the layers.
        dropout: after each.
        first: makes what comes before the first layer and turns the inputs into ``Tensor[B, inputs]``.
    """

    def stages() -> list[nn.Module]:
        made: list[nn.Module] = []
        size = inputs
        for width in widths:
            layers = [nn.Linear(size, width), nn.ReLU(), nn.Dropout(dropout)]
            made.append(nn.Sequential(*layers[: 3 if dropout else 2]))
            size = width
        made[0] = nn.Sequential(first(), *made[0])
        return made

    return Trunk(stages, tuple(widths))
