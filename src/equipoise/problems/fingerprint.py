"""Digests of the files behind a problem, by which a study notices that one was edited."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path

import equipoise
from equipoise.problems.catalogue import loaded, reference, root_of

_OURS = Path(equipoise.__file__).resolve().parent


def fingerprint(*names: str) -> dict[str, str]:
    """Digests of the source files behind problems (or methods) and of what they import from their own folder.

    A study notices by them when one was edited.

    Returns:
        A digest by path, relative to the folder; and the version of this package.
    """
    found = {"equipoise": equipoise.__version__}
    for name in names:
        where = reference(name)
        if where is None:
            continue
        source = inspect.getsourcefile(inspect.unwrap(loaded(where, "problem")))
        if source is None:
            continue
        start = Path(source).resolve()
        if start.is_relative_to(_OURS):
            found[start.name] = _digest(start)
            continue
        root = root_of(start)
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
