"""Images in a folder a domain and below it a folder a class, and how they are divided."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from equipoise.problems.base import SplitName
from equipoise.problems.files import DataError, DataSet, Recipe
from equipoise.problems.files.images import Pixels, images_in, pixels, wrong_among
from equipoise.problems.vision.image_source import IMAGE

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
# One seed for the division, not the seed of a trial: every trial sees the same data.
SEED = 1107
# Images of a class, so that every split has one of it.
LEAST = 3
SIDE = 224
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Listing:
    """The images there are.

    Attributes:
        classes: those that every domain has.
        items: paths of all images below the folder.
        domains: number of the domain of each, ``int64[N]``.
        labels: number of the class of each, ``int64[N]``.
    """

    classes: tuple[str, ...]
    items: tuple[str, ...]
    domains: Rows
    labels: Rows

    @cached_property
    def parts(self) -> Rows:
        """Number of the split of each, ``int64[N]``: 60, 20 and 20 % of every class of every domain."""
        found = np.zeros(len(self.items), np.int64)
        draw = np.random.default_rng(SEED)
        _, groups = np.unique(np.stack([self.domains, self.labels]), axis=1, return_inverse=True)
        for group in range(int(groups.max()) + 1):
            mixed = draw.permutation(np.flatnonzero(groups.ravel() == group))
            share = max(1, round(0.2 * len(mixed)))
            found[mixed[:share]] = SPLITS.index("validation")
            found[mixed[share : 2 * share]] = SPLITS.index("test")
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Domains:
    """A data set of images that come from several domains and are of the same classes.

    Attributes:
        folder: name of its own.
        page: the official one.
        licence: in a few words.
        domains: by name, the folder of its classes below that of the data set.
        counts: how many images each domain has where all classes are there.
        classes: all of them.
        named: a file's name, as a pattern of its number; those of a class are numbered from 1 on.
    """

    folder: str
    page: str
    licence: str
    domains: Mapping[str, str]
    counts: Mapping[str, int]
    classes: tuple[str, ...]
    named: str

    @cached_property
    def data(self) -> DataSet:
        """What has to lie on disk."""
        return DataSet(
            name=self.folder,
            page=self.page,
            licence=self.licence,
            files={f"{place}/*/{self.named.format(1)}": None for place in self.domains.values()},
            examine=self._examine,
            recipes=lambda folder: [self.recipe(folder)],
        )

    def listing(self, folder: Path) -> Listing:
        """All images, from one listing of each folder; made once in a process.

        Raises:
            DataError: a class is missing in a domain, an image among its numbers, or a folder is of no class.
        """
        return _listing(self, folder)

    def recipe(self, folder: Path, side: int = SIDE) -> Recipe:
        """All images at a size.

        Args:
            folder: of the data set.
            side: height and width after resizing.

        Raises:
            DataError: as :meth:`listing`.
        """
        return Recipe(
            key=f"images-{side}",
            items=self.listing(folder).items,
            layout={IMAGE: ((3, side, side), "uint8")},
            decode=partial(_decode, side=side),
        )

    def _examine(self, folder: Path) -> Iterator[str]:
        found = self.listing(folder)
        gone = [name for name in self.classes if name not in found.classes]
        if gone:
            yield f"{folder}: {len(gone)} of {len(self.classes)} classes are missing, such as {gone[0]!r}"
        yield from wrong_among((folder / item for item in found.items), lambda p: pixels(p, (1, 1)))


def _decode(folder: Path, item: str, side: int) -> Mapping[str, Pixels]:
    return {IMAGE: pixels(folder / item, (side, side))}


@lru_cache(maxsize=4)
def _listing(of: Domains, folder: Path) -> Listing:
    there = {name: _classes(of, folder / place) for name, place in of.domains.items()}
    classes = tuple(name for name in of.classes if any(name in own for own in there.values()))
    items: list[str] = []
    domains: list[int] = []
    labels: list[int] = []
    for number, (domain, place) in enumerate(of.domains.items()):
        before = len(items)
        for label, name in enumerate(classes):
            if name not in there[domain]:
                raise _wrong(of, folder / place / name, f"domain {domain!r} lacks this class")
            own = _images(of, folder / place / name)
            items += [f"{place}/{name}/{image}" for image in own]
            domains += [number] * len(own)
            labels += [label] * len(own)
        count = len(items) - before
        if classes == of.classes and count != of.counts[domain]:
            what = f"domain {domain!r} has {count:,} images and should have {of.counts[domain]:,}"
            raise _wrong(of, folder / place, what)
    return Listing(classes, tuple(items), np.array(domains), np.array(labels))


def _classes(of: Domains, place: Path) -> list[str]:
    """Folders of a domain; files beside them are passed over."""
    try:
        with os.scandir(place) as entries:
            found = sorted(
                each.name for each in entries if each.is_dir() and not each.name.startswith(".")
            )
    except OSError as error:
        raise _wrong(of, place, f"this folder cannot be read ({error.strerror})") from None
    if odd := [name for name in found if name not in of.classes]:
        raise _wrong(of, place / odd[0], f"this folder is none of the {len(of.classes)} classes")
    if not found:
        raise _wrong(of, place, "it has no folder of a class")
    return found


def _images(of: Domains, place: Path) -> Sequence[str]:
    found = images_in(place)
    if len(found) < LEAST:
        raise _wrong(of, place, f"it has {len(found)} images, and a class needs {LEAST} or more")
    wanted = [of.named.format(number) for number in range(1, len(found) + 1)]
    if found != wanted:
        gone = next(name for name in wanted if name not in found)
        what = f"this image is not there, but others of a class of {len(found)} are"
        raise _wrong(of, place / gone, what)
    return found


def _wrong(of: Domains, path: Path, what: str) -> DataError:
    return DataError(path, what, f"unpack the archive anew, from {of.page}")
