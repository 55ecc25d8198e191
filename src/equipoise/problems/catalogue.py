"""Finds a problem by its name: one of ours, or one of yours."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import equipoise
from equipoise.problems.base import Problem

# By reference and not by import, so that naming one problem does not load the libraries of all.
PROBLEMS: Mapping[str, str] = {"digits": "equipoise.problems.digits:digits"}
_OURS = Path(equipoise.__file__).resolve().parent
# Problems of this process, by name.
_GIVEN: dict[str, Callable[..., Any]] = {}


def given(name: str, build: Callable[..., Any]) -> str:
    """Gives a problem of this process a name, by which nothing but this process finds it."""
    _GIVEN[name] = build
    return name


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
    refuse_options(build, options, f"problem {name!r}")
    built = build(**options)
    if not isinstance(built, Problem):
        raise ValueError(
            f"{name!r} returned a {type(built).__name__}; return an equipoise.problems.Problem"
        )
    return built


def refuse_options(build: Callable[..., Any], options: Mapping[str, Any], what: str) -> None:
    """Refuses options that a function or class does not take.

    Raises:
        ValueError: it does not; the message tells what it takes.
    """
    try:
        inspect.signature(build).bind(**options)
    except TypeError as error:
        takes = ", ".join(inspect.signature(build).parameters) or "none"
        raise ValueError(
            f"{what} does not take these options ({error}); it takes: {takes}"
        ) from None


def builder(name: str) -> Callable[..., Any]:
    """The function behind a problem's name.

    Raises:
        ValueError: there is none.
    """
    if name in _GIVEN:
        return _GIVEN[name]
    reference = PROBLEMS.get(name, name)
    if ":" not in reference:
        near = get_close_matches(name, PROBLEMS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"there is no problem {name!r}; {hint}known: {', '.join(PROBLEMS)}; "
            f"name your own as 'package.module:function' or 'path/to/file.py:function'"
        )
    return loaded(reference, "problem")


def loaded(reference: str, what: str) -> Callable[..., Any]:
    """The function or class behind ``"package.module:name"`` or ``"path/to/file.py:name"``.

    What a file imports may lie beside it.

    Args:
        reference: the two parts.
        what: it stands for, to be named in errors.

    Raises:
        ValueError: there is none.
    """
    where, colon, attribute = reference.rpartition(":")
    if not colon:
        raise ValueError(
            f"there is no {what} {reference!r}; name your own as 'package.module:name' or "
            "'path/to/file.py:name'"
        )
    module = _from_file(Path(where), what) if where.endswith(".py") else _from_module(where)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise ValueError(
            f"{where!r} has no function {attribute!r}, which {what} {reference!r} names"
        )
    return found  # type: ignore[no-any-return]


def fingerprint(*names: str) -> dict[str, str]:
    """Digests of the source files behind problems (or methods) and of what they import from their own folder.

    A study notices by them when one was edited.

    Returns:
        A digest by path, relative to the folder; and the version of this package.
    """
    found = {"equipoise": equipoise.__version__}
    for name in names:
        if name in _GIVEN:
            continue
        source = inspect.getsourcefile(inspect.unwrap(loaded(PROBLEMS.get(name, name), "problem")))
        if source is None:
            continue
        start = Path(source).resolve()
        if start.is_relative_to(_OURS):
            found[start.name] = _digest(start)
            continue
        root = _root(start)
        for path in _imported(start, root):
            found[path.relative_to(root).as_posix()] = _digest(path)
    return found


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between two fingerprints, in words."""
    told = []
    for name in sorted({*before, *now}):
        if name not in now:
            told.append(f"{name} is gone")
        elif name not in before:
            told.append(f"{name} is new")
        elif before[name] != now[name] and name == "equipoise":
            told.append(f"equipoise was {before[name]} and is {now[name]}")
        elif before[name] != now[name]:
            told.append(f"{name} has changed")
    return told


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _root(start: Path) -> Path:
    """The folder that imports of a file are looked for in: that of its top-level package."""
    folder = start.parent
    while (folder / "__init__.py").exists():
        folder = folder.parent
    return folder


def _imported(start: Path, root: Path) -> Iterator[Path]:
    """The file and all that it imports, directly or not, from below its folder."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        yield path
        package = path.parent.relative_to(root).parts
        try:
            tree = ast.parse(path.read_bytes(), str(path))
        except (SyntaxError, ValueError):
            continue  # told with its line by whoever imports it
        for node in ast.walk(tree):
            for dotted in _names(node, package):
                waiting += _files(root, dotted)


def _names(node: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield tuple(alias.name.split("."))
    elif isinstance(node, ast.ImportFrom):
        above = package[: len(package) - node.level + 1] if node.level else ()
        base = (*above, *(node.module.split(".") if node.module else ()))
        yield base
        for alias in node.names:
            yield (*base, alias.name)


def _files(root: Path, dotted: tuple[str, ...]) -> Iterator[Path]:
    for length in range(1, len(dotted) + 1):
        at = root.joinpath(*dotted[:length])
        for candidate in (at.with_suffix(".py"), at / "__init__.py"):
            if candidate.is_file():
                yield candidate.resolve()


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


def _from_file(path: Path, what: str) -> ModuleType:
    full = path.expanduser().resolve()
    if not full.is_file():
        raise ValueError(f"there is no file {str(path)!r} to take the {what} from")
    name = f"equipoise_problem_{hashlib.sha256(str(full).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None:
        raise ValueError(f"{str(path)!r} cannot be loaded as a Python file")
    module = importlib.util.module_from_spec(spec)
    # What lies beside the file is found, now and when one of its functions imports it later.
    beside = str(_root(full))
    if beside not in sys.path:
        sys.path.append(beside)
    # Registered first: dataclasses in the file look their own module up while it is being run.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
