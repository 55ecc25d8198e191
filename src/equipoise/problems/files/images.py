"""Images from files: decoded as a whole, and what is wrong with one told by its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.problems.files.data_set import DataError
from equipoise.problems.files.needs import needs

Pixels = NDArray[np.uint8]
SUFFIXES = (".jpg", ".jpeg", ".png")
# Grey is shown in three colours, and inks are turned into light; what else there is would lose something.
MODES = ("RGB", "L", "CMYK")
# How many wrong images are told one by one.
MOST = 20
# Paths that wait for a thread at most: a list of all would hold a folder of any size.
AT_ONCE = 256


def pixels(
    path: Path,
    size: tuple[int, int],
    *,
    original: tuple[int, int] | None = None,
    modes: tuple[str, ...] = MODES,
) -> Pixels:
    """An image in three colours, ``uint8[3, H, W]``; every byte of it is decoded.

    Args:
        path: of the file.
        size: height and width, to which it is resized without regard to its own (bilinear, with the
            pixels between taken into account).
        original: height and width that it must have in the file; None for any.
        modes: kinds of colours, in the names of pillow, that are as expected.

    Raises:
        DataError: it is not there, cannot be decoded to its end, or is not as expected.
        ImportError: pillow is not installed.
    """
    image: Any = needs("PIL.Image", "vision")
    try:
        with image.open(path) as opened:
            wrong = _unexpected(opened, original, modes)
            if wrong is None:
                colours = opened.convert("RGB")
                if colours.size != size[::-1]:
                    colours = colours.resize(size[::-1], image.Resampling.BILINEAR)
                found: Pixels = np.asarray(colours, dtype=np.uint8).transpose(2, 0, 1)
                return np.ascontiguousarray(found)
    except FileNotFoundError:
        raise DataError(path, "there is no such image", "unpack the images anew") from None
    except Exception as error:  # noqa: BLE001
        # Decoders raise whatever the bytes make them stumble over.
        why = " ".join(str(error).split()).replace(repr(os.fspath(path)), "it")
        raise DataError(
            path, f"the image cannot be decoded ({why})", "unpack or fetch it anew"
        ) from None
    raise DataError(path, wrong, "unpack or fetch it anew")


def _unexpected(
    opened: Any, original: tuple[int, int] | None, modes: tuple[str, ...]
) -> str | None:
    if original is not None and opened.size != original[::-1]:
        width, height = opened.size
        return f"the image is {width} x {height} pixels and should be {original[1]} x {original[0]}"
    if opened.mode not in modes:
        return f"the image has the colours {opened.mode!r} and should have {' or '.join(modes)}"
    return None


def images_in(folder: Path) -> list[str]:
    """Names of the images of a folder, in order; what is none or is hidden is passed over.

    Raises:
        DataError: the folder cannot be read.
    """
    return sorted(name for name in names_in(folder) if name.lower().endswith(SUFFIXES))


def names_in(folder: Path) -> list[str]:
    """Names in a folder, in one listing and in order, without hidden ones.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(each.name for each in entries if not each.name.startswith("."))
    except OSError as error:
        raise DataError(
            folder, f"the folder cannot be read ({error.strerror})", "unpack the images anew"
        ) from None


def wrong_among(paths: Iterable[Path], decode: Callable[[Path], object]) -> Iterator[str]:
    """What is wrong with images, a sentence each for the first of them; all are decoded."""
    found = 0
    with ThreadPoolExecutor(threads()) as pool:
        for line in _in_order(pool, paths, decode):
            found += 1
            if found <= MOST:
                yield line
    if found > MOST:
        yield f"and {found - MOST:,} more images are wrong"


def _in_order(
    pool: ThreadPoolExecutor, paths: Iterable[Path], decode: Callable[[Path], object]
) -> Iterator[str]:
    def complaint(path: Path) -> str:
        try:
            decode(path)
        except DataError as error:
            return str(error)
        return ""

    each = iter(paths)
    while some := list(islice(each, AT_ONCE)):
        yield from filter(None, pool.map(complaint, some))


def threads() -> int:
    """How many images are decoded at a time: one for each core that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1
