"""The batches of every training step, the same under every method at a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from equipoise.problems import Batch, Source, Tensors
from equipoise.problems.nesting import tensors


class Feed:
    """The batches of each step: one, or several that together are as large.

    What lies in memory is cut after it was drawn, so that every method sees the same examples in a step.

    Args:
        data: the training data.
        names: of the tasks that are learned.
        size: of a batch.
        parts: batches of a step.
        device: where they go.
    """

    def __init__(
        self, data: Source, names: Sequence[str], size: int, parts: int, device: str
    ) -> None:
        self.data = data
        self.names = names
        self.parts = parts
        self.device = device
        self.cut = parts == 1 or isinstance(data, Tensors)
        self.size = size if self.cut else max(size // parts, 1)
        self._order = hashlib.sha256()

    def steps(self, seed: int) -> Iterator[list[Batch]]:
        """Those of an epoch."""
        count = 1 if self.cut else self.parts
        batches = iter(self.data.batches(self.size, seed))
        while True:
            drawn = [batch.to(self.device) for batch in islice(batches, count)]
            if len(drawn) < count:
                return
            self._note(drawn[0])
            parts = _parts(drawn[0], self.parts) if self.cut else drawn
            yield [batch.only(self.names) for batch in parts]

    def order(self) -> str:
        """Digest of the order of all examples so far."""
        return self._order.hexdigest()[:16]

    def _note(self, batch: Batch) -> None:
        for tensor in islice(tensors(batch.inputs), 1):
            sample = tensor.detach().flatten()[:256].cpu().contiguous()
            self._order.update(sample.view(torch.uint8).numpy().tobytes())


def _parts(batch: Batch, count: int) -> list[Batch]:
    """The batch in equal parts."""
    if count == 1:
        return [batch]
    size = batch.size // count
    if size == 0:
        raise ValueError(
            f"a batch of {batch.size} has no {count} parts, which the method needs; enlarge batch_size"
        )
    whole = Tensors(batch.inputs, batch.targets)
    return [whole.take(slice(k * size, (k + 1) * size)) for k in range(count)]


def digest(weights: Iterable[Tensor]) -> str:
    """Digest of some tensors."""
    found = hashlib.sha256()
    for tensor in weights:
        flat = tensor.detach().cpu().contiguous().flatten()
        found.update(flat.view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]
