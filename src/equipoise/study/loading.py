"""Reads a study from a TOML file or a mapping, and says in words which key makes no sense."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from equipoise.study.spec import MethodSpec, Spec
from equipoise.study.values import KINDS

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


def parse(content: Mapping[str, Any], source: str = "study") -> Spec:
    """Checks a study given as a mapping.

    Raises:
        ValueError: a key or value makes no sense; the message names the key.
    """
    try:
        return Spec.model_validate(dict(content))
    except ValidationError as error:
        lines = [_explain(dict(each)) for each in error.errors()]
        raise ValueError(f"{source}: " + "; ".join(lines)) from None


def _explain(error: dict[str, Any]) -> str:
    # Which kind of value was taken is no part of the key.
    where = tuple(part for part in error["loc"] if part not in KINDS)
    if not where:
        return str(error["msg"]).removeprefix("Value error, ")
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(
        "."
    )
    if error["type"] == "extra_forbidden":
        owner = MethodSpec if where[0] == "methods" else Spec
        near = get_close_matches(str(where[-1]), owner.model_fields, n=1)
        hint = (
            f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(owner.model_fields)}"
        )
        return f"key '{key}' is not known{hint}"
    if error["type"] == "missing":
        return f"key '{key}' is missing"
    what = str(error["msg"]).removeprefix("Value error, ")
    return f"key '{key}': {what} (given: {error['input']!r})"
