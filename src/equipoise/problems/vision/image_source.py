"""Examples that are images: from prepared arrays, or decoded while the step before is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equipoise.problems.data import Batch
from equipoise.problems.files import Recipe, ready
from equipoise.problems.files.images import Pixels, threads

Rows = NDArray[np.int64]
# Name of the array of a recipe: uint8[N, 3, H, W].
IMAGE = "image"
# Batches that are read before they are asked for.
AHEAD = 2
# Bytes of decoded images that a split may keep where nothing was prepared.
KEPT = 256 << 20
# Mean and standard deviation of the colours of ImageNet, which networks trained on it expect.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Images of a split with their targets; inputs are ``Tensor[B, 3, H, W]``, about -2 to 2.

    Attributes:
        folder: of the data set.
        recipe: of all its images, with one array ``"image"``.
        rows: which of them are in the split, ``int64[N]``.
        targets: by task, in the order of ``rows``.
        crop: side of a square cut out of each image, at random and mirrored or not where the order is
            random, and from the middle where it is not; None leaves images whole.
        most: examples of a batch in order, where more would not fit into memory.
    """

    folder: Path
    recipe: Recipe
    rows: Rows
    targets: Mapping[str, Tensor]
    crop: int | None = None
    most: int = 256

    def __len__(self) -> int:
        return len(self.rows)

    def steps(self, size: int) -> int:
        """See :meth:`Source.steps`."""
        return len(self) // min(size, len(self))

    @cached_property
    def prepared(self) -> NDArray[Any] | None:
        """The decoded images of all rows of the recipe, mapped into memory; None where there are none."""
        arrays = ready(self.folder, self.recipe)
        return None if arrays is None else arrays[IMAGE]

    def batches(self, size: int, seed: int | None) -> Iterator[Batch]:
        """See :meth:`Source.batches`.

        Raises:
            DataError: an image cannot be decoded.
        """
        if self.prepared is None:
            # Made here, since each of the threads would make one of its own.
            _ = self._kept
        pool = ThreadPoolExecutor(threads() if self.prepared is None else 1)
        ahead: deque[tuple[NDArray[np.int64], Tensor, list[Future[Pixels]]]] = deque()
        try:
            for where, cuts in self._drawn(size, seed):
                ahead.append((where, cuts, self._asked(pool, where)))
                if len(ahead) > AHEAD:
                    yield self._batch(*ahead.popleft())
            while ahead:
                yield self._batch(*ahead.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _drawn(self, size: int, seed: int | None) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Places in the split, batch by batch, with three numbers in [0, 1) by which each is cut."""
        if seed is None:
            middle = torch.full((len(self), 3), 0.5)
            size = min(size, self.most)
            for start in range(0, len(self), size):
                where = np.arange(start, min(start + size, len(self)))
                yield where, middle[: len(where)]
            return
        size = min(size, len(self))
        random = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=random)
        cuts = torch.rand(len(self), 3, generator=random)
        for number in range(len(self) // size):
            part = slice(number * size, (number + 1) * size)
            yield order[part].numpy(), cuts[part]

    def _asked(self, pool: ThreadPoolExecutor, where: NDArray[np.int64]) -> list[Future[Pixels]]:
        array = self.prepared
        if array is not None:
            return [pool.submit(_read, array, self.rows[where])]
        return [pool.submit(self._decoded, int(place)) for place in where]

    def _batch(self, where: NDArray[np.int64], cuts: Tensor, asked: list[Future[Pixels]]) -> Batch:
        found = [each.result() for each in asked]
        images = torch.from_numpy(found[0] if self.prepared is not None else np.stack(found))
        if self.crop is not None:
            images = _cut(images, cuts, self.crop)
        index = torch.from_numpy(where)
        targets = {name: target[index] for name, target in self.targets.items()}
        return Batch(scaled(images), targets, len(where))

    def _decoded(self, place: int) -> Pixels:
        kept = self._kept
        if kept is not None and kept[1][place]:
            image: Pixels = kept[0][place]
            return image
        item = self.recipe.items[self.rows[place]]
        image = np.asarray(self.recipe.decode(self.folder, item)[IMAGE])
        if kept is not None:
            kept[0][place] = image
            # Only now: another thread may be asking for the same one.
            kept[1][place] = True
        return image

    @cached_property
    def _kept(self) -> tuple[Pixels, NDArray[np.bool_]] | None:
        """What was decoded, and which that is, where all of it fits."""
        shape = (len(self), *self.recipe.layout[IMAGE][0])
        if int(np.prod(shape)) > KEPT:
            return None
        return np.empty(shape, np.uint8), np.zeros(len(self), np.bool_)


def scaled(images: Tensor) -> Tensor:
    """From ``uint8[B, 3, H, W]`` to what networks take: less the mean of ImageNet, over its deviation."""
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) * 255.0 for each in (MEAN, STD))
    return images.float().sub_(mean).div_(std)


def _read(array: NDArray[Any], rows: Rows) -> Pixels:
    """Rows of an array on disk, read in the order in which they lie there."""
    order = np.argsort(rows, kind="stable")
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    out[order] = array[rows[order]]
    return out


def _cut(images: Tensor, cuts: Tensor, side: int) -> Tensor:
    """A square of each image, mirrored where the third number is above a half."""
    spare = torch.tensor([length - side + 1 for length in images.shape[-2:]])
    corners = (cuts[:, :2] * spare).long()
    out = torch.empty(*images.shape[:2], side, side, dtype=images.dtype)
    for row, ((top, left), mirrored) in enumerate(
        zip(corners.tolist(), (cuts[:, 2] > 0.5).tolist(), strict=True)
    ):
        square = images[row, :, top : top + side, left : left + side]
        out[row] = square.flip(-1) if mirrored else square
    return out
