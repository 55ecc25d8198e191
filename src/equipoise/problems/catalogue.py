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
from equipoise.problems.files import DataSet

# By reference and not by import, so that naming one problem does not load the libraries of all.
PROBLEMS: Mapping[str, str] = {
    "digits": "equipoise.problems.vision.digits:digits",
    "multimnist": "equipoise.problems.vision.multimnist:multimnist",
    "multifashion": "equipoise.problems.vision.multifashion:multifashion",
    "fashion_mnist_mix": "equipoise.problems.vision.fashion_mnist_mix:fashion_mnist_mix",
    "qmnist": "equipoise.problems.vision.qmnist:qmnist",
    "nyuv2": "equipoise.problems.vision.nyuv2:nyuv2",
    "cityscapes": "equipoise.problems.vision.cityscapes:cityscapes",
    "pascal_context": "equipoise.problems.vision.pascal_context:pascal_context",
    "celeba": "equipoise.problems.vision.celeba:celeba",
    "office31": "equipoise.problems.vision.office31:office31",
    "officehome": "equipoise.problems.vision.officehome:officehome",
    "scenes": "equipoise.problems.vision.scenes:scenes",
    "udpos": "equipoise.problems.language.udpos:udpos",
    "pawsx": "equipoise.problems.language.pawsx:pawsx",
    "translation": "equipoise.problems.language.translation:translation",
    "census_income": "equipoise.problems.tables.census_income:census_income",
    "tox21": "equipoise.problems.tables.tox21:tox21",
    "qm8": "equipoise.problems.tables.qm8:qm8",
    "qm9": "equipoise.problems.tables.qm9:qm9",
    "mulan": "equipoise.problems.tables.mulan:mulan",
    "toy2d": "equipoise.problems.synthetic.toy2d:toy2d",
    "quadratics": "equipoise.problems.synthetic.quadratics:quadratics",
    "linear_front": "equipoise.problems.synthetic.linear_front:linear_front",
}
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
    where = PROBLEMS.get(name, name)
    if ":" not in where:
        near = get_close_matches(name, PROBLEMS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"there is no problem {name!r}; {hint}known: {', '.join(PROBLEMS)}; "
            f"name your own as 'package.module:function' or 'path/to/file.py:function'"
        )
    return loaded(where, "problem")


def reference(name: str) -> str | None:
    """Where a problem is, as :func:`loaded` takes it; None for one of this process."""
    return None if name in _GIVEN else PROBLEMS.get(name, name)


def presets(name: str) -> Mapping[str, Mapping[str, Any]]:
    """The settings that come with a problem, as keys of a study: ``PRESETS`` in the file of its function.

    The first is what a study has where nothing else is asked for. Several problems of a file have the same.
    """
    found: Mapping[str, Mapping[str, Any]] = _beside(name, "PRESETS", {})
    return found


def data_sets(name: str) -> tuple[DataSet, ...]:
    """The data sets on disk that a problem reads: ``DATA`` in the file of its function."""
    found: tuple[DataSet, ...] = _beside(name, "DATA", ())
    return found


def _beside(name: str, attribute: str, default: Any) -> Any:
    return getattr(inspect.getmodule(inspect.unwrap(builder(name))), attribute, default)


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


def root_of(start: Path) -> Path:
    """The folder that imports of a file are looked for in: that of its top-level package."""
    folder = start.parent
    while (folder / "__init__.py").exists():
        folder = folder.parent
    return folder


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
    beside = str(root_of(full))
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
