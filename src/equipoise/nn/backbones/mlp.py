"""A multi-layer perceptron for tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.nn.trunk import Trunk


class Columns(nn.Module):
    """Numbers and embedded categories side by side.

    Args:
        categories: how many values each categorical column has.
        sizes: of its embedding.
    """

    def __init__(self, categories: Sequence[int], sizes: Sequence[int]) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(map(nn.Embedding, categories, sizes))

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """From ``(Tensor[B, numbers], Tensor[B, columns])``, the latter integers, to ``Tensor[B, F]``."""
        numbers, categories = inputs
        columns = zip(self.embeddings, categories.unbind(1), strict=True)
        embedded = [embedding(column) for embedding, column in columns]
        return torch.cat([numbers, *embedded], 1)


def mlp(
    numbers: int,
    sizes: Sequence[int] = (256, 256),
    dropout: float = 0.0,
    normalise: bool = False,
    categories: Sequence[int] = (),
    embedding: int | None = None,
) -> Trunk:
    """Layers of ``sizes`` with ReLU, a stage each.

    Args:
        numbers: how many numerical columns there are.
        sizes: of the layers.
        dropout: behind each layer.
        normalise: whether each layer is normalised over the batch.
        categories: how many values each categorical column has, counted from zero. With it the inputs are
            ``(numbers, categories)``: ``Tensor[B, numbers]`` and integers ``Tensor[B, columns]``.
        embedding: size of the embedding of a categorical column; None: half as many as it has values, from
            1 to 50.

    Raises:
        ValueError: there is no layer, or no column.
    """
    embedded = [embedding or max(1, min(50, count // 2)) for count in categories]
    first = numbers + sum(embedded)
    if not sizes or first < 1:
        raise ValueError(
            f"numbers={numbers}, sizes={tuple(sizes)}: a layer and a column are needed at least"
        )

    def stages() -> Sequence[nn.Module]:
        made: list[nn.Module] = []
        for before, after in zip((first, *sizes), sizes, strict=False):
            parts: list[Any] = [nn.Linear(before, after)]
            parts += [nn.BatchNorm1d(after)] * normalise
            parts += [nn.ReLU()]
            parts += [nn.Dropout(dropout)] * (dropout > 0)
            made.append(nn.Sequential(*parts))
        if categories:
            made[0] = nn.Sequential(Columns(categories, embedded), *made[0].children())
        return made

    return Trunk(stages, tuple(sizes))
