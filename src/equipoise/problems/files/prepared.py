"""Data decoded once into arrays that are mapped into memory.

A folder of arrays is built beside its final name, a chunk of rows at a time; a journal says which chunks are
done and what they sum to. When the last is done it is renamed: what has the final name is whole.
"""

from __future__ import annotations

import json
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, NDArray[Any]]
# Rows between two entries of the journal: what a killed run repeats at most.
CHUNK = 64
JOURNAL = "journal.jsonl"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is decoded into arrays, a row at a time.

    Attributes:
        key: name of its folder; every option that changes the rows belongs in it.
        items: one a row, in words that differ: what ``decode`` is given, such as paths below the folder.
        layout: shape and type of a row, by name of the array.
        decode: from the folder and an item to a row.
    """

    key: str
    items: Sequence[str]
    layout: Mapping[str, tuple[tuple[int, ...], str]]
    decode: Callable[[Path, str], Row]

    def told(self) -> dict[str, Any]:
        """What has to be the same for arrays to be those of this recipe."""
        layout = {name: [list(shape), kind] for name, (shape, kind) in self.layout.items()}
        names = zlib.crc32("\n".join(self.items).encode())
        return {"rows": len(self.items), "names": names, "layout": layout}


def place(folder: Path, recipe: Recipe) -> Path:
    """Where the arrays of a recipe lie."""
    return folder / "prepared" / recipe.key


def ready(folder: Path, recipe: Recipe) -> dict[str, NDArray[Any]] | None:
    """The arrays, mapped into memory; None where they are not prepared, or for other files.

    Raises:
        ValueError: an array is damaged.
    """
    there = place(folder, recipe)
    if not (there / JOURNAL).is_file() or _told(there) != recipe.told():
        return None
    return {name: _mapped(there, recipe, name, "r") for name in recipe.layout}


def _silent(done: int, of: int) -> None:
    pass


def build(folder: Path, recipe: Recipe, progress: Callable[[int, int], None] = _silent) -> Path:
    """Decodes what is not decoded yet.

    Args:
        folder: of the data set.
        recipe: what to decode.
        progress: told how many rows of how many are done.

    Returns:
        Where the arrays lie.

    Raises:
        ValueError: a row cannot be decoded; what was decoded before it is kept. Or another process is at it.
        OSError: the folder cannot be written to, or the arrays do not fit on its disk.
    """
    final = place(folder, recipe)
    final.parent.mkdir(parents=True, exist_ok=True)
    with _alone(final.with_name(f"{recipe.key}.lock")):
        return _built(folder, recipe, final, progress)


def _built(folder: Path, recipe: Recipe, final: Path, progress: Callable[[int, int], None]) -> Path:
    if final.exists() and not list(damaged(folder, recipe)):
        progress(len(recipe.items), len(recipe.items))
        return final
    part = final.with_name(f"{recipe.key}.part")
    done = _resumed(part, recipe)
    _refuse_full_disk(part, recipe, done)
    arrays = {name: _mapped(part, recipe, name, "r+") for name in recipe.layout}
    with (part / JOURNAL).open("a", encoding="utf-8") as journal, ThreadPoolExecutor() as pool:
        for start in range(done, len(recipe.items), CHUNK):
            progress(start, len(recipe.items))
            items = recipe.items[start : start + CHUNK]
            for row, found in enumerate(pool.map(lambda i: recipe.decode(folder, i), items), start):
                _put(arrays, row, found, recipe)
            for array in arrays.values():
                array.flush()
            sums = {name: _sum(array, start) for name, array in arrays.items()}
            journal.write(json.dumps({"start": start, "sums": sums}) + "\n")
            journal.flush()
    progress(len(recipe.items), len(recipe.items))
    del arrays
    if final.exists():
        shutil.rmtree(final)
    part.rename(final)
    return final


def damaged(folder: Path, recipe: Recipe) -> Iterator[str]:
    """What is wrong with arrays that are there, a sentence each; every number is read."""
    there = place(folder, recipe)
    again = "run 'equipoise data prepare' again"
    if not there.exists():
        return
    if not (there / JOURNAL).is_file() or _told(there) != recipe.told():
        yield f"{there}: prepared from other files, or by another version; {again}"
        return
    try:
        arrays = {name: _mapped(there, recipe, name, "r") for name in recipe.layout}
        if _good(there, arrays) < len(recipe.items):
            yield f"{there}: the arrays are not what was written; {again}"
    except ValueError as error:
        yield str(error)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds a file; the system lets go of it when this process ends, however it ends."""
    if sys.platform == "win32":
        yield  # no advisory locks here; two processes at once only do the work twice
        return
    import fcntl

    with path.open("a", encoding="utf-8") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{path.with_suffix('')} is being prepared by another process; wait for it"
            ) from None
        yield


def _refuse_full_disk(part: Path, recipe: Recipe, done: int) -> None:
    """The system ends a process that writes to a mapped file where the disk is full, without a word."""
    row = sum(
        int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in recipe.layout.values()
    )
    wanted, free = row * (len(recipe.items) - done), shutil.disk_usage(part).free
    if wanted > free:
        raise OSError(
            f"the arrays in {part} need {wanted / 1e9:.2f} GB more and the disk has {free / 1e9:.2f} GB; "
            "make room, or put links to the files into a folder elsewhere"
        )


def _resumed(part: Path, recipe: Recipe) -> int:
    """How many rows of an unfinished folder are good; the folder is begun where there is none."""
    with suppress(ValueError, OSError):
        if _told(part) == recipe.told():
            arrays = {name: _mapped(part, recipe, name, "r") for name in recipe.layout}
            done = _good(part, arrays)
            lines = (part / JOURNAL).read_text(encoding="utf-8").splitlines(keepends=True)
            kept = lines[: 1 + -(-done // CHUNK)]
            (part / JOURNAL).write_text("".join(kept), encoding="utf-8")
            return done
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, (shape, kind) in recipe.layout.items():
        array = np.lib.format.open_memmap(
            part / f"{name}.npy", "w+", np.dtype(kind), (len(recipe.items), *shape)
        )
        array.flush()
    (part / JOURNAL).write_text(json.dumps(recipe.told()) + "\n", encoding="utf-8")
    return 0


def _told(there: Path) -> dict[str, Any]:
    """The first line of a journal; nothing where it cannot be read."""
    try:
        with (there / JOURNAL).open(encoding="utf-8") as journal:
            found: dict[str, Any] = json.loads(journal.readline())
        return found
    except (OSError, ValueError):
        return {}


def _good(there: Path, arrays: Mapping[str, NDArray[Any]]) -> int:
    """Rows up to the first chunk that is not done, or not what was written."""
    rows = len(next(iter(arrays.values())))
    done = 0
    for line in (there / JOURNAL).read_text(encoding="utf-8").splitlines()[1:]:
        try:
            entry = json.loads(line)
            sums = {name: _sum(array, done) for name, array in arrays.items()}
            if entry != {"start": done, "sums": sums}:
                return done
        except ValueError:
            return done
        done = min(done + CHUNK, rows)
    return done


def _mapped(there: Path, recipe: Recipe, name: str, mode: Any) -> Any:
    shape, kind = recipe.layout[name]
    path = there / f"{name}.npy"
    wanted = (len(recipe.items), *shape)
    try:
        array = np.lib.format.open_memmap(path, mode)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: it cannot be read ({error}); run 'equipoise data prepare' again"
        ) from None
    if array.shape != wanted or array.dtype != np.dtype(kind):
        raise ValueError(
            f"{path}: it has {array.dtype}{list(array.shape)} and should have {kind}{list(wanted)}; run "
            "'equipoise data prepare' again"
        )
    return array


def _put(arrays: Mapping[str, Any], row: int, found: Row, recipe: Recipe) -> None:
    for name, (shape, kind) in recipe.layout.items():
        value = np.asarray(found[name])
        if value.shape != tuple(shape):
            raise ValueError(
                f"{recipe.items[row]}: {name} has the shape {list(value.shape)} and should have {list(shape)}"
            )
        stored = value.astype(kind, copy=False)
        # Whole numbers that do not fit would come back as others.
        if stored.dtype.kind in "iu" and not np.array_equal(stored, value):
            raise ValueError(f"{recipe.items[row]}: {name} holds numbers that {kind} cannot hold")
        arrays[name][row] = stored


def _sum(array: NDArray[Any], start: int) -> int:
    return zlib.crc32(np.ascontiguousarray(array[start : start + CHUNK]).tobytes())
