"""Errors of a user's own code: told with the file, the line, and its text."""

from __future__ import annotations

import linecache
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import equipoise
from equipoise.problems.files import DataError

_OURS = Path(equipoise.__file__).resolve().parent
_STANDARD, *_INSTALLED = (
    Path(sysconfig.get_paths()[name]).resolve() for name in ("stdlib", "purelib", "platlib")
)


class TheirError(ValueError):
    """The user's code raised; the message says what and where."""


@contextmanager
def users_code(what: str) -> Iterator[None]:
    """Tells where in the user's code an error came from; errors of the package go through as they are.

    Args:
        what: runs the code, such as ``"problem 'own.py:build'"``.

    Raises:
        TheirError: the user's code raised.
    """
    try:
        yield
    except DataError:
        raise  # it names the file, whoever read it
    except (Exception, SystemExit) as error:
        where = _place(error)
        if where is None and error.__cause__ is not None:
            # We said whose code it is; it may say where.
            where = _place(error.__cause__, installed=False)
        if where is None:
            raise
        file, line, inside, text = where
        told = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
        raise TheirError(
            f"{what} cannot be used: {told}\n  {file}, line {line}{inside}:\n    {text.strip()}"
        ) from error


def _place(error: BaseException, installed: bool = True) -> tuple[str, int, str, str] | None:
    """File, line, function and text where the user's code failed; None if it was not the user's.

    Args:
        error: what was raised.
        installed: whether code that is installed among the libraries may be the user's.
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        text = error.text or linecache.getline(error.filename, error.lineno)
        return error.filename, error.lineno, "", text
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<")
        and _OURS not in Path(frame.filename).resolve().parents
    ]
    own = [frame for frame in frames if not _library(Path(frame.filename).resolve())]
    # A user's package may be installed among the libraries.
    others = [frame for frame in frames if not _standard(Path(frame.filename).resolve())]
    for frame in reversed(own or (others if installed else [])):
        inside = "" if frame.name == "<module>" else f", in {frame.name}"
        return frame.filename, frame.lineno or 0, inside, frame.line or ""
    return None


def _library(path: Path) -> bool:
    return _standard(path) or any(folder in path.parents for folder in _INSTALLED)


def _standard(path: Path) -> bool:
    """Whether it is of the standard library, which is never the user's."""
    return _STANDARD in path.parents and not any(folder in path.parents for folder in _INSTALLED)
