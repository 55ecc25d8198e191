"""Images in a folder a domain and below it a folder a class, and how they are divided."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
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
# With so many images of a class every split has one of it.
LEAST = 3
SIDE = 224
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Listing:
    """The images there are.

    Attributes:
        classes: those of which there are images.
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
        """Number of the split of each, ``int64[N]``: 60, 20 and 20 % of every class of every domain.

        Of two images one is for training and one is held out, for validation and for the test in turn; one
        image is for training.
        """
        found = np.zeros(len(self.items), np.int64)
        draw = np.random.default_rng(SEED)
        _, groups = np.unique(np.stack([self.domains, self.labels]), axis=1, return_inverse=True)
        for group in range(int(groups.max()) + 1):
            mixed = draw.permutation(np.flatnonzero(groups.ravel() == group))
            if len(mixed) < LEAST:
                found[mixed[1:]] = SPLITS.index(("validation", "test")[group % 2])
                continue
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
        counts: how many images the publisher has of each domain.
        classes: all of them.
        named: the publisher's names of files, as a pattern of a number from 1 on.
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
            files={f"{place}/*/*.*": None for place in self.domains.values()},
            examine=self._examine,
            recipes=lambda folder: [self.recipe(folder)],
        )

    def listing(self, folder: Path) -> Listing:
        """All images, from one listing of each folder; made once in a process.

        Raises:
            DataError: a folder is missing or of no class, or there are too few images for three splits.
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
        yield from _lacking(self, folder, found)
        yield from wrong_among((folder / item for item in found.items), lambda p: pixels(p, (1, 1)))


def _decode(folder: Path, item: str, side: int) -> Mapping[str, Pixels]:
    return {IMAGE: pixels(folder / item, (side, side))}


@lru_cache(maxsize=4)
def _listing(of: Domains, folder: Path) -> Listing:
    images = {
        domain: {
            name: [f"{place}/{name}/{image}" for image in images_in(folder / place / name)]
            for name in _classes(of, folder / place)
        }
        for domain, place in of.domains.items()
    }
    classes = tuple(name for name in of.classes if any(own.get(name) for own in images.values()))
    items: list[str] = []
    domains: list[int] = []
    labels: list[int] = []
    for number, own in enumerate(images.values()):
        for label, name in enumerate(classes):
            there = own.get(name, [])
            items += there
            domains += [number] * len(there)
            labels += [label] * len(there)
    found = Listing(classes, tuple(items), np.array(domains, int), np.array(labels, int))
    _refuse_empty(of, folder, found)
    return found


def _refuse_empty(of: Domains, folder: Path, found: Listing) -> None:
    for number, (domain, place) in enumerate(of.domains.items()):
        own = found.parts[found.domains == number] if found.items else found.domains
        gone = [split for part, split in enumerate(SPLITS) if not (own == part).any()]
        if gone:
            what = f"domain {domain!r} has {len(own)} images, which leave none for {gone[0]}"
            raise _wrong(of, folder / place, f"{what}; {LEAST} images of a class are divided")


def _lacking(of: Domains, folder: Path, found: Listing) -> Iterator[str]:
    """What the publisher has and the folder has not, a sentence each."""
    gone = [name for name in of.classes if name not in found.classes]
    if gone:
        yield f"{folder}: {len(gone)} of {len(of.classes)} classes are missing, such as {gone[0]!r}"
    for number, (domain, place) in enumerate(of.domains.items()):
        own = found.domains == number
        for label, name in enumerate(found.classes):
            rows = np.flatnonzero(own & (found.labels == label))
            names = {Path(found.items[row]).name for row in rows}
            if not names:
                yield f"{folder / place / name}: domain {domain!r} has no image of this class"
                continue
            wanted = [of.named.format(each) for each in range(1, len(names) + 1)]
            if missing := next((each for each in wanted if each not in names), None):
                where = folder / place / name / missing
                yield f"{where}: this image is not there, and {len(names)} of its class are"
        if own.sum() != of.counts[domain]:
            yield (
                f"{folder / place}: domain {domain!r} has {own.sum():,} images and its publisher "
                f"{of.counts[domain]:,}"
            )


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


def _wrong(of: Domains, path: Path, what: str) -> DataError:
    return DataError(path, what, f"unpack the archive anew, from {of.page}")
