"""Images and what is told of every pixel, read while the network trains."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from equipoise.problems.data import Batch
from equipoise.problems.files import DataError, Recipe, ready
from equipoise.problems.vision.dense_tasks import Answer, Kind

Row = Mapping[str, NDArray[Any]]
IMAGE = "image"
# How far it is zoomed in, as the published loaders of NYUv2 have it.
SCALES = (1.0, 1.2, 1.5)
# Batches that are read while the network works on one, and threads that read them.
AHEAD = 2
THREADS = 4
# How rows are kept: shape behind height and width, and type.
LAYOUTS: Mapping[Kind, tuple[tuple[int, ...], str]] = {
    "classes": ((), "int8"),
    "depth": ((), "float32"),
    "inverse_depth": ((), "float32"),
    # To a thousandth, which is a twentieth of a degree.
    "normals": ((3,), "float16"),
    "binary": ((), "int8"),
}


@dataclass(frozen=True)
class Pictures:
    """The examples of a split.

    Attributes:
        read: from a number to its row: an image ``[H, W, 3]``, bytes or numbers in [0, 1], and arrays of the
            answers, ``[H, W]`` or ``[H, W, 3]``.
        rows: the numbers of this split.
        answers: what there is beside the image.
        augment: whether training batches, those with a seed, are zoomed and flipped at random. What happens
            to an example depends on the seed and on its number.
        most: images in a batch that is read in order, where more would not fit into memory.
    """

    read: Callable[[int], Row]
    rows: Sequence[int]
    answers: tuple[Answer, ...]
    augment: bool = False
    most: int = 32

    def __len__(self) -> int:
        return len(self.rows)

    def steps(self, size: int) -> int:
        """See :meth:`~equipoise.problems.Source.steps`."""
        return len(self.rows) // min(size, len(self.rows))

    def batches(self, size: int, seed: int | None) -> Iterator[Batch]:
        """See :meth:`~equipoise.problems.Source.batches`; the next ones are read beside the training."""
        if seed is None:
            rows, size = list(self.rows), min(size, self.most)
        else:
            size = min(size, len(self.rows))
            random = torch.Generator().manual_seed(seed)
            order = torch.randperm(len(self.rows), generator=random)
            rows = [self.rows[i] for i in order[: self.steps(size) * size]]
        parts = iter([rows[start : start + size] for start in range(0, len(rows), size)])
        pool = ThreadPoolExecutor(THREADS)

        def asked(count: int) -> list[list[Future[dict[str, Tensor]]]]:
            return [
                [pool.submit(self.example, row, seed) for row in part]
                for part in islice(parts, count)
            ]

        try:
            waiting = deque(asked(AHEAD))
            while waiting:
                examples = [each.result() for each in waiting.popleft()]
                waiting.extend(asked(1))
                yield self._together(examples)
        finally:
            pool.shutdown(cancel_futures=True)

    def _together(self, examples: Sequence[Mapping[str, Tensor]]) -> Batch:
        inputs = torch.stack([example[IMAGE] for example in examples])
        targets = {
            answer.name: torch.stack([each[answer.name] for each in examples])
            for answer in self.answers
        }
        return Batch(inputs, targets, len(examples))

    def example(self, row: int, seed: int | None) -> dict[str, Tensor]:
        """A row as tensors, channels first; zoomed and flipped where there is a seed."""
        arrays = self.read(row)
        kinds = {answer.name: answer.kind for answer in self.answers}
        found = {IMAGE: image(arrays[IMAGE])}
        found |= {name: target(arrays[name], kind) for name, kind in kinds.items()}
        if seed is None or not self.augment:
            return found
        return zoomed(found, kinds, torch.Generator().manual_seed(1_000_003 * seed + row))


def image(array: NDArray[Any]) -> Tensor:
    """``float32[3, H, W]`` in [0, 1]."""
    pixels = torch.from_numpy(np.array(array)).movedim(-1, 0)
    return pixels.float().div(255) if pixels.dtype == torch.uint8 else pixels.float()


def target(array: NDArray[Any], kind: Kind) -> Tensor:
    """The answers of an image as losses take them."""
    values = torch.from_numpy(np.array(array))
    if kind == "classes":
        return values.long()
    return values.float().movedim(-1, 0) if kind == "normals" else values.float().unsqueeze(0)


def zoomed(
    example: Mapping[str, Tensor], kinds: Mapping[str, Kind], random: torch.Generator
) -> dict[str, Tensor]:
    """A part of an example in the size of the whole, mirrored or not.

    What is seen larger is nearer: depth is divided by the scale and its inverse multiplied by it. In a mirror
    normals point to the other side.

    Args:
        example: the image and its answers, channels first.
        kinds: of the answers, by name.
        random: decides.
    """
    height, width = example[IMAGE].shape[-2:]
    scale = SCALES[_below(len(SCALES), random)]
    high, wide = int(height / scale), int(width / scale)
    top, left = _below(height - high + 1, random), _below(width - wide + 1, random)
    mirror = _below(2, random) == 1
    found = {}
    for name, tensor in example.items():
        kind = kinds.get(name)
        window = tensor[..., top : top + high, left : left + wide]
        if scale != 1:
            window = _resized(window, kind, (height, width))
        if kind == "depth":
            window = window / scale
        elif kind == "inverse_depth":
            window = window * scale
        if mirror:
            window = window.flip(-1)
            if kind == "normals":
                window = window * window.new_tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)
        found[name] = window
    return found


def _resized(window: Tensor, kind: Kind | None, size: tuple[int, int]) -> Tensor:
    def to(values: Tensor, mode: str) -> Tensor:
        sides: dict[str, Any] = {} if mode == "nearest" else {"align_corners": True}
        return functional.interpolate(values[None], size, mode=mode, **sides)[0]

    if kind is None:
        return to(window, "bilinear")
    if kind == "normals":
        there = to(window.ne(0).any(0, keepdim=True).float(), "nearest")
        return functional.normalize(to(window, "bilinear"), dim=0) * there
    if kind == "classes":
        return to(window[None].float(), "nearest")[0].long()
    return to(window, "nearest")


def _below(limit: int, random: torch.Generator) -> int:
    return int(torch.randint(limit, (1,), generator=random))


def layout(answers: Sequence[Answer], size: tuple[int, int]) -> dict[str, Any]:
    """The layout of a recipe whose rows are images in bytes, and answers."""
    found: dict[str, Any] = {IMAGE: ((*size, 3), "uint8")}
    for answer in answers:
        behind, dtype = LAYOUTS[answer.kind]
        found[answer.name] = ((*size, *behind), dtype)
    return found


def reader(folder: Path, recipe: Recipe) -> Callable[[int], Row]:
    """Rows of a recipe: prepared ones where there are, or else decoded when they are asked for."""
    arrays = ready(folder, recipe)
    if arrays is None:
        return lambda row: recipe.decode(folder, recipe.items[row])
    return lambda row: {name: array[row] for name, array in arrays.items()}


def held_out(count: int, share: float = 0.2, folder: Path = Path()) -> tuple[list[int], list[int]]:
    """Numbers below ``count`` for training and for validation, one at least for each.

    They are ordered by a hash of the number, which no version of any generator changes.

    Raises:
        DataError: there are fewer than two images in the folder.
    """
    if count < 2:
        raise DataError(
            folder,
            f"there is {count} image for training, and one more is held out for validation",
            "put two training images there or more",
        )
    order = sorted(range(count), key=lambda row: hashlib.sha256(b"%d" % row).digest())
    part = max(1, round(share * count))
    return sorted(order[part:]), sorted(order[:part])


def antialiased(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """An image of bytes ``[H, W, 3]`` in another size."""
    if pixels.shape[:2] == size:
        return pixels
    channels = torch.from_numpy(np.ascontiguousarray(pixels)).movedim(-1, 0)[None]
    small = functional.interpolate(channels, size, mode="bilinear", antialias=True)
    return np.ascontiguousarray(small[0].movedim(0, -1).numpy())


def nearest(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """An array ``[H, W, ...]`` in another size, each number one of the old ones."""
    if values.shape[:2] == size:
        return values
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, values.shape[:2], strict=True)
    )
    found: NDArray[Any] = values[rows][:, columns]
    return found


def complaints(folder: Path, recipe: Recipe) -> Iterator[str]:
    """What is wrong with each of the files of a recipe, a sentence each."""
    for item in recipe.items:
        wrong = _complaint(folder, recipe, item)
        if wrong:
            yield wrong


def _complaint(folder: Path, recipe: Recipe, item: str) -> str:
    try:
        recipe.decode(folder, item)
    except DataError as error:
        return str(error)
    return ""
