"""Writes what a store holds to plain files: CSV, JSON or Parquet, a file a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from equipoise.study.schema import MEASURED
from equipoise.study.store import Store

Table = tuple[list[str], list[tuple[Any, ...]]]


def export(store: Store, folder: Path, form: str) -> list[Path]:
    """Writes every table, and ``study.json`` with the specification and the environments.

    Numbers come back from each form exactly as the store holds them.

    Args:
        store: a study, finished or not.
        folder: where to; made if it is not there. Files of an earlier export are replaced.
        form: ``"csv"``, ``"json"`` or ``"parquet"``.

    Returns:
        The files.

    Raises:
        ValueError: there is no such form, or Parquet is asked for without pyarrow.
    """
    if form not in FORMS:
        raise ValueError(f"there is no format {form!r}; known: {', '.join(FORMS)}")
    if form == "parquet" and find_spec("pyarrow") is None:
        raise ValueError("Parquet needs pyarrow: pip install pyarrow; csv and json need nothing")
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        key: store.get(key) for key in ("spec", "problems", "fingerprint", "version", "schema")
    }
    written = [folder / "study.json"]
    _json_text(written[0], {**facts, "environments": store.environments()})
    for name in ("trial", *MEASURED):
        written.append(folder / f"{name}.{form}")
        FORMS[form](written[-1], store.table(name))
    return written


def _csv(path: Path, table: Table) -> None:
    columns, rows = table
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _json(path: Path, table: Table) -> None:
    columns, rows = table
    _json_text(path, [dict(zip(columns, row, strict=True)) for row in rows])


def _json_text(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _parquet(path: Path, table: Table) -> None:
    import pyarrow
    from pyarrow import parquet

    columns, rows = table
    whole = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in columns]
    parquet.write_table(pyarrow.table(dict(zip(columns, whole, strict=True))), path)


FORMS: Mapping[str, Callable[[Path, Table], None]] = {
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
}
