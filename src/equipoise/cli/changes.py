"""What the options of ``equipoise run`` replace in a study, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from equipoise.study.studies import changed

# A list longer than this is counted and not shown.
SHOWN = 6
# Options of a problem that have a flag of their own.
FLAGS = ("arch", "width", "tasks")


def replaced(content: Mapping[str, Any], changes: Mapping[str, Any], source: str) -> Iterator[str]:
    """A line for everything that the study says and that an option takes back.

    Args:
        content: the study.
        changes: keys to replace; None leaves a key as it is.
        source: where the study is from.
    """
    after = changed(content, changes)
    own = content.get("problem_options", {})
    for option, value in (changes.get("problem_options") or {}).items():
        if option in own and own[option] != value:
            flag = _option(option) if option in FLAGS else f"--option {option}"
            yield f"{flag} replaces {option} = {_short(own[option])} of {source}"
    for key, value in changes.items():
        if key == "problem_options":
            continue
        if value is not None and key in content and _plain(key, content[key]) != _plain(key, value):
            old = _short(_plain(key, content[key]))
            yield f"{_option(key)} replaces {key} = {old} of {source}"
    left = {each["id"]: each for each in _tables(after)}
    for each in _tables(content):
        if each["id"] not in {_id(one) for one in after.get("methods", ())}:
            continue
        lost = {key: each[key] for key in each if key not in left.get(each["id"], {"id": ""})}
        if lost:
            told = ", ".join(f"{key} = {_short(value)}" for key, value in lost.items())
            name = each.get("label") or each["id"]
            yield f"{_option('learning_rates')} replaces {told} of {name}"


def _option(key: str) -> str:
    return "--" + key.replace("_", "-")


def _tables(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in content.get("methods", ()) if not isinstance(each, str)]


def _id(method: Any) -> str:
    return method if isinstance(method, str) else str(method["id"])


def _plain(key: str, value: Any) -> Any:
    if key == "seeds" and isinstance(value, int):
        return list(range(value))
    return [_id(each) for each in value] if key == "methods" else value


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > SHOWN:
        return f"[{len(value)} entries]"
    return json.dumps(value, ensure_ascii=False)
