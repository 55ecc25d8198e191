"""Finds a problem by its name: one of ours, or one of yours."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from equipoise.problems.base import Problem

# By reference and not by import, so that naming one problem does not load the libraries of all.
PROBLEMS: Mapping[str, str] = {"digits": "equipoise.problems.digits:digits"}


def problem(name: str, **options: Any) -> Problem:
    """Builds a problem.

    Args:
        name: a name of :data:`PROBLEMS`, ``"package.module:function"`` or ``"path/to/file.py:function"``.
        options: passed to the function by name.

    Raises:
        ValueError: there is no such problem, it does not take these options, or it returns something
            else than a :class:`Problem`.
    """
    build = builder(name)
    try:
        inspect.signature(build).bind(**options)
    except TypeError as error:
        takes = ", ".join(inspect.signature(build).parameters) or "none"
        raise ValueError(
            f"problem {name!r} does not take these options ({error}); it takes: {takes}"
        ) from None
    built = build(**options)
    if not isinstance(built, Problem):
        raise ValueError(
            f"{name!r} returned a {type(built).__name__}; return an equipoise.problems.Problem"
        )
    return built


def builder(name: str) -> Callable[..., Any]:
    """The function behind a problem's name.

    Raises:
        ValueError: there is none.
    """
    reference = PROBLEMS.get(name, name)
    where, colon, attribute = reference.rpartition(":")
    if not colon:
        near = get_close_matches(name, PROBLEMS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"there is no problem {name!r}; {hint}known: {', '.join(PROBLEMS)}; "
            f"name your own as 'package.module:function' or 'path/to/file.py:function'"
        )
    module = _from_file(Path(where)) if where.endswith(".py") else _from_module(where)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise ValueError(f"{where!r} has no function {attribute!r}, which problem {name!r} names")
    return found  # type: ignore[no-any-return]


def fingerprint(name: str) -> str:
    """A digest of the source file that defines a problem: a study notices when the problem was edited."""
    source = inspect.getsourcefile(inspect.unwrap(builder(name)))
    if source is None:
        return ""
    return hashlib.sha256(Path(source).read_bytes()).hexdigest()[:16]


def _from_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and not name.startswith(error.name):
            raise
        raise ValueError(
            f"there is no module {name!r}; is it on the path of this Python? A file can be named as "
            f"'path/to/file.py:function'"
        ) from None


def _from_file(path: Path) -> ModuleType:
    full = path.expanduser().resolve()
    if not full.is_file():
        raise ValueError(f"there is no file {str(path)!r} to take the problem from")
    name = f"equipoise_problem_{hashlib.sha256(str(full).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None:
        raise ValueError(f"{str(path)!r} cannot be loaded as a Python file")
    module = importlib.util.module_from_spec(spec)
    # Registered first: dataclasses in the file look their own module up while it is being run.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
