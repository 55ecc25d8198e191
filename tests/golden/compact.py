"""Carries a folder of golden-1 files here, without what only a reader of them needs.

    python tests/golden/compact.py FROM [TO]

Kept: inputs, cases, expected numbers and tolerances, the conventions. Left out: records of other
implementations, descriptions of the inputs, whitespace.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TOP = ("format", "method", "family", "description", "conventions", "note", "inputs", "cases")
CASE_EXTRAS = ("peers", "origin", "notes")
INPUT_EXTRAS = ("tags", "difficulty", "rank", "cond_J", "min_cos", "K", "P", "grad_norms")


def without(record: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


def compact(data: dict[str, Any]) -> dict[str, Any]:
    """The same file with nothing in it that the tests do not read."""
    kept = {key: data[key] for key in TOP if key in data}
    kept["cases"] = [without(case, CASE_EXTRAS) for case in data["cases"]]
    kept["inputs"] = {name: _input(given) for name, given in data.get("inputs", {}).items()}
    return kept


def _input(given: Any) -> Any:
    if not isinstance(given, dict):
        return given
    kept = without(given, INPUT_EXTRAS)
    if "steps" in kept:
        kept["steps"] = [without(step, INPUT_EXTRAS) for step in kept["steps"]]
    return kept


def main(source: Path, target: Path) -> None:
    """Writes every file of ``source`` to ``target``, one case a line so that changes can be read."""
    for file in sorted(source.glob("*.json")):
        data = compact(json.loads(file.read_text(encoding="utf-8")))
        cases, inputs = data.pop("cases"), data.pop("inputs")
        head = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
        given = ",\n".join(f"{_dump(name)}:{_dump(value)}" for name, value in inputs.items())
        rows = ",\n".join(_dump(case) for case in cases)
        text = f'{head[:-1]},\n"inputs":{{\n{given}}},\n"cases":[\n{rows}]}}\n'
        (target / file.name).write_text(text, encoding="utf-8")


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent)
