"""Reads a study from a TOML file or a mapping, and says in words which key makes no sense."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from equipoise.study.method_spec import MethodSpec
from equipoise.study.spec import Spec
from equipoise.study.values import KINDS, Coarse, Range
from equipoise.study.without_effect import without_effect

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]


def load(path: str | Path) -> Spec:
    """Reads a study from a TOML file.

    Raises:
        ValueError: the file is missing, is not TOML, or has a key or value that makes no sense; the
            message names the key.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from None
    return parse(_beside(content, path.parent), str(path))


def _beside(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The study with its ``"file.py:name"`` that lie beside the TOML file as they are found from here."""

    def found(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {**value, "id": found(value["id"])} if "id" in value else value
        if isinstance(value, list):
            return [found(each) for each in value]
        file, colon, name = value.rpartition(":") if isinstance(value, str) else ("", "", "")
        there = folder / file
        return f"{there}:{name}" if colon and file.endswith(".py") and there.is_file() else value

    named = ("problem", "methods", "optimizer", "schedule")
    return {key: found(value) if key in named else value for key, value in content.items()}


# What is expected, where the words of the checker are those of a programmer.
EXPECTED = {
    "list_type": "give a list",
    "dict_type": "give a table of names and values",
    "model_type": "give an id, or a table with an id",
    "string_type": "give text in quotes",
    "float_type": "give a number",
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "bool_type": "give true or false",
    "bool_parsing": "give true or false",
}


def parse(content: Mapping[str, Any], source: str = "study", *, stored: bool = False) -> Spec:
    """Checks a study given as a mapping.

    Args:
        content: the study.
        source: where it is from, to be named in errors.
        stored: whether a store kept it, with all keys: then those without an effect are let be.

    Raises:
        ValueError: a key or value makes no sense; the message names the key.
    """
    try:
        spec = Spec.model_validate(dict(content))
    except ValidationError as error:
        lines = [_explain(dict(each)) for each in error.errors()]
        raise ValueError(f"{source}: " + "; ".join(lines)) from None
    useless = [] if stored else list(without_effect(spec))
    if useless:
        raise ValueError(f"{source}: {'; '.join(useless)}")
    return spec


def _explain(error: dict[str, Any]) -> str:
    # Which kind of value was taken is no part of the key.
    where = tuple(part for part in error["loc"] if part not in KINDS)
    if not where:
        return str(error["msg"]).removeprefix("Value error, ")
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(
        "."
    )
    if error["type"] == "extra_forbidden":
        owner = _owner(error["loc"])
        near = get_close_matches(str(where[-1]), owner.model_fields, n=1)
        hint = (
            f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(owner.model_fields)}"
        )
        return f"key '{key}' is not known{hint}"
    if error["type"] == "missing":
        return f"key '{key}' is missing"
    what = EXPECTED.get(error["type"]) or str(error["msg"]).removeprefix("Value error, ")
    if isinstance(error["input"], Mapping) and "id" in error["input"]:
        return f"key '{key}': {what}"
    return f"key '{key}': {what.replace('Input should', 'it should')} (given: {error['input']!r})"


def _owner(where: tuple[Any, ...]) -> type[BaseModel]:
    """Whose keys are asked for at a place."""
    if where[-2:-1] == (KINDS[0],):
        return Range
    if where[-2:-1] == (KINDS[1],):
        return Coarse
    return MethodSpec if where[0] == "methods" else Spec
