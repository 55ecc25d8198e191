"""A data set in a folder: its files, its page, its licence, and an error that names what is wrong."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from equipoise.problems.files.prepared import Recipe

if TYPE_CHECKING:
    from _typeshed import StrPath

# The environment variable that names the folder in which every data set has a folder of its own.
PLACE = "EQUIPOISE_DATA"


class DataError(ValueError):
    """A file of a data set is missing or wrong.

    Args:
        file: which one.
        what: is wrong with it.
        remedy: what to do.
    """

    def __init__(self, file: StrPath, what: str, remedy: str) -> None:
        super().__init__(f"{os.fspath(file)}: {what}; {remedy}")
        self.file = Path(file)
        self.what = what
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[DataError], tuple[StrPath, str, str]]:
        return type(self), (self.file, self.what, self.remedy)


def _nothing(folder: Path) -> Iterable[str]:
    return ()


def _no_recipes(folder: Path) -> Sequence[Recipe]:
    return ()


def _nowhere(name: str) -> Iterable[str]:
    return ()


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Files that a problem reads, as their publisher hands them out.

    Attributes:
        name: of its folder below the place of all data.
        page: the official one.
        licence: in a few words.
        files: paths or patterns (``"image/*.npy"``) below the folder, each with the MD5 of its uncompressed
            content, or None. A file may lie there with ``.gz`` behind its name.
        optional: those of ``files`` that need not be there.
        one_of: groups of ``files`` of which one at least has to be there, such as one of each layout.
        also: from one of ``files`` to other paths where it may lie, as others spell or place it.
        examine: looks into the files and tells, a sentence each, what is wrong with them.
        recipes: of what is worth decoding once, see :class:`~equipoise.problems.files.Recipe`.
    """

    name: str
    page: str
    licence: str
    files: Mapping[str, str | None]
    optional: frozenset[str] = frozenset()
    one_of: tuple[tuple[str, ...], ...] = ()
    also: Callable[[str], Iterable[str]] = field(default=_nowhere, repr=False)
    examine: Callable[[Path], Iterable[str]] = field(default=_nothing, repr=False)
    recipes: Callable[[Path], Sequence[Recipe]] = field(default=_no_recipes, repr=False)

    def folder(self, root: StrPath | None = None) -> Path:
        """Where its files are.

        Args:
            root: the folder that holds the data sets; None: that of the environment variable.

        Raises:
            DataError: no folder was named, it is not there, or it cannot be read.
        """
        place = root if root is not None else os.environ.get(PLACE, "")
        if not os.fspath(place):
            raise DataError(self.name, "no folder of data sets was named", self._remedy())
        found = Path(place).expanduser() / self.name
        try:
            os.scandir(found).close()
        except PermissionError as error:
            raise DataError(
                found, f"the folder cannot be read ({error.strerror})", "allow yourself to read it"
            ) from None
        except OSError:
            raise DataError(found, "there is no such folder", self._remedy()) from None
        return found

    def file(self, name: str, root: StrPath | None = None) -> Path:
        """A file of it, compressed or not.

        Raises:
            DataError: it is not there.
        """
        return self.within(self.folder(root), name)

    def within(self, folder: Path, name: str) -> Path:
        """A file below its folder, compressed or not.

        Raises:
            DataError: it is not there.
        """
        for each in (name, *self.also(name)):
            for path in (folder / each, folder / f"{each}.gz"):
                if path.is_file():
                    return path
        raise self.missing(folder / name)

    def complaints(self, root: StrPath | None = None) -> Iterator[str]:
        """What is missing or wrong, a sentence each; nothing where all is well."""
        try:
            folder = self.folder(root)
        except DataError as error:
            yield str(error)
            return
        found = [*map(str, self.lacking(folder)), *self._wrong_sums(folder)]
        yield from found
        if not found:
            try:
                yield from self.examine(folder)
            except (ValueError, OSError) as error:
                yield str(error)

    def lacking(self, folder: Path) -> Iterator[DataError]:
        """What is not there; no file is opened."""
        free = self.optional.union(*self.one_of)
        for name in self.files:
            if name not in free and not self._there(folder, name):
                yield self.missing(folder / name)
        for group in self.one_of:
            if not any(self._there(folder, name) for name in group):
                others = f"none of {', '.join(group)} is there"
                yield DataError(folder, others, self._remedy())

    def _wrong_sums(self, folder: Path) -> Iterator[str]:
        for name, digest in self.files.items():
            if digest is None or not self._there(folder, name):
                continue
            try:
                path = self.within(folder, name)
                if (found := md5(path)) != digest:
                    yield str(self.wrong(path, f"its MD5 is {found} and should be {digest}"))
            except DataError as error:
                yield str(error)

    def _there(self, folder: Path, name: str) -> bool:
        """Whether a file, or one that a pattern stands for, is there, compressed or not."""
        every = (name, *self.also(name))
        return any(
            next(folder.glob(path), None) is not None
            for each in every
            for path in (each, f"{each}.gz")
        )

    def missing(self, file: StrPath) -> DataError:
        """The error for a file that is not there."""
        return DataError(file, "there is no such file", self._remedy())

    def wrong(self, file: StrPath, what: str) -> DataError:
        """The error for a file that is there and cannot be right."""
        return DataError(file, what, f"fetch it anew from {self.page}")

    def _remedy(self) -> str:
        return (
            f"get the data from {self.page} ({self.licence}), put it into a folder {self.name!r} and name "
            f"the folder above it by {PLACE} or --data-root"
        )


def opened(path: Path) -> BinaryIO:
    """A file for reading, uncompressed where its name ends in ``.gz``."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def md5(path: Path) -> str:
    """Of the uncompressed content of a file.

    Raises:
        DataError: it cannot be read.
    """
    found = hashlib.md5(usedforsecurity=False)
    try:
        with opened(path) as file:
            while piece := file.read(1 << 20):
                found.update(piece)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(path, f"it cannot be read ({error})", "fetch it anew") from None
    return found.hexdigest()
