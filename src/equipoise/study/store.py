"""The store: one SQLite file a study, written by the driver only."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from equipoise.study.trial import Cost, Failure, Outcome, Result, Trial

SCHEMA = 1
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE environment (id INTEGER PRIMARY KEY, facts TEXT NOT NULL UNIQUE);
CREATE TABLE trial (
    id TEXT PRIMARY KEY, record TEXT NOT NULL,
    stage TEXT NOT NULL, method TEXT NOT NULL, method_options TEXT NOT NULL, task TEXT,
    learning_rate REAL NOT NULL, seed INTEGER NOT NULL,
    status TEXT NOT NULL, note TEXT NOT NULL, attempts INTEGER NOT NULL,
    steps INTEGER, samples INTEGER, forwards INTEGER, backwards INTEGER, step_ms REAL, seconds REAL,
    initial TEXT, batch_order TEXT, threads INTEGER,
    finished TEXT NOT NULL, environment INTEGER NOT NULL REFERENCES environment (id));
CREATE TABLE metric (
    trial TEXT NOT NULL REFERENCES trial (id), epoch INTEGER NOT NULL, split TEXT NOT NULL,
    task TEXT NOT NULL, metric TEXT NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (trial, epoch, split, task, metric)) WITHOUT ROWID;
CREATE TABLE weight (
    trial TEXT NOT NULL REFERENCES trial (id), epoch INTEGER NOT NULL, task TEXT NOT NULL,
    mean REAL NOT NULL, std REAL NOT NULL, PRIMARY KEY (trial, epoch, task)) WITHOUT ROWID;
CREATE TABLE gradient (
    trial TEXT NOT NULL REFERENCES trial (id), epoch INTEGER NOT NULL, task TEXT NOT NULL,
    other TEXT NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (trial, epoch, task, other)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Stored:
    """What the store knows of a trial, apart from its measurements."""

    trial: Trial
    status: str
    note: str
    attempts: int
    cost: Cost | None
    initial: str
    order: str
    threads: int
    environment: int


class Store:
    """One study's file.

    Args:
        path: the file; created where there is none.
        create: False refuses to create it.

    Raises:
        ValueError: there is no such file, it is no study, or it was written by another version.
    """

    def __init__(self, path: str | Path, create: bool = True) -> None:
        self.path = Path(path)
        if not self.path.exists():
            if not create:
                raise ValueError(f"there is no file {str(path)!r}; 'equipoise run' writes one")
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(self.path, isolation_level=None)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise ValueError(f"{str(path)!r} is not a study ({error})") from None
        except ValueError:
            self._db.close()
            raise

    def _open(self) -> None:
        # WAL: readers see a consistent study while the driver writes, and a killed driver leaves the
        # file as its last finished transaction left it.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        with self._transaction():
            known = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master")}
            if not known:
                for statement in _TABLES.split(";"):
                    self._db.execute(statement)
                self._set("schema", SCHEMA)
            elif "meta" not in known or "trial" not in known:
                raise ValueError(f"{str(self.path)!r} is a database, but not of a study")
            elif (found := self.get("schema")) != SCHEMA:
                raise ValueError(
                    f"{str(self.path)!r} has schema {found}, this version of equipoise reads {SCHEMA}; "
                    f"use another --out, or the version that wrote it"
                )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- facts about the study

    def get(self, key: str) -> Any:
        """A fact about the study; None if it was never set."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set(self, **facts: Any) -> None:
        """Sets facts, all or none."""
        with self._transaction():
            for key, value in facts.items():
                self._set(key, value)

    def _set(self, key: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    # --- trials

    def add(self, trial: Trial, outcome: Outcome, environment: Mapping[str, Any]) -> None:
        """Records a trial and everything it measured, in one transaction.

        A failed trial is recorded too, and gives way to a later outcome; a finished one never does.
        """
        with self._transaction():
            if self._status(trial.id) in ("done", "diverged"):
                return
            self._db.execute("DELETE FROM trial WHERE id = ?", (trial.id,))
            self._add(trial, outcome, self._environment(environment))

    def _add(self, trial: Trial, outcome: Outcome, environment: int) -> None:
        if isinstance(outcome, Failure):
            found: tuple[Any, ...] = ("failed", outcome.error, outcome.attempts, *[None] * 9)
        else:
            found = (
                outcome.status,
                outcome.note,
                1,
                *astuple(outcome.cost),
                outcome.initial,
                outcome.order,
                outcome.threads,
            )
        row = (
            trial.id,
            trial.to_json(),
            trial.stage,
            trial.method,
            trial.method_options,
            trial.task,
            trial.learning_rate,
            trial.seed,
            *found,
            datetime.now(timezone.utc).isoformat(timespec="seconds"),
            environment,
        )
        self._insert("trial", [row])
        if isinstance(outcome, Result):
            for table in ("metric", "weight", "gradient"):
                rows = getattr(outcome, table + "s")
                self._insert(table, [(trial.id, *astuple(each)) for each in rows])

    def _insert(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            places = ", ".join("?" * len(rows[0]))
            self._db.executemany(f"INSERT INTO {table} VALUES ({places})", rows)

    def _status(self, trial: str) -> str | None:
        row = self._db.execute("SELECT status FROM trial WHERE id = ?", (trial,)).fetchone()
        return None if row is None else str(row[0])

    def _environment(self, facts: Mapping[str, Any]) -> int:
        text = json.dumps(dict(facts), sort_keys=True)
        self._db.execute("INSERT OR IGNORE INTO environment (facts) VALUES (?)", (text,))
        row = self._db.execute("SELECT id FROM environment WHERE facts = ?", (text,)).fetchone()
        return int(row[0])

    def missing(self, trials: Iterable[Trial]) -> list[Trial]:
        """Those without a result, in the order given; a failed trial has none."""
        rows = self._db.execute("SELECT id FROM trial WHERE status IN ('done', 'diverged')")
        have = {row[0] for row in rows}
        return list({trial.id: trial for trial in trials if trial.id not in have}.values())

    def trials(self) -> dict[str, Stored]:
        """All trials by id, failed ones too."""
        rows = self._db.execute(
            "SELECT record, status, note, attempts, steps, samples, forwards, backwards, step_ms, "
            "seconds, initial, batch_order, threads, environment FROM trial ORDER BY rowid"
        )
        return {stored.trial.id: stored for stored in map(_stored, rows)}

    def environments(self) -> dict[int, dict[str, Any]]:
        """The environments that trials ran in."""
        rows = self._db.execute("SELECT id, facts FROM environment ORDER BY id")
        return {number: json.loads(facts) for number, facts in rows}

    def table(self, name: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names and rows of a table (``trial``, ``metric``, ``weight``, ``gradient``)."""
        if name not in ("trial", "metric", "weight", "gradient"):
            raise ValueError(f"there is no table {name!r}")
        cursor = self._db.execute(f"SELECT * FROM {name}")
        return [column[0] for column in cursor.description], cursor.fetchall()


def _stored(row: tuple[Any, ...]) -> Stored:
    record, status, note, attempts, *cost, initial, order, threads, environment = row
    steps, samples, forwards, backwards, step_ms, seconds = cost
    spent = None
    if steps is not None:
        spent = Cost(
            steps=steps,
            samples=samples,
            forwards=forwards,
            backwards=backwards,
            step_ms=float("nan") if step_ms is None else step_ms,
            seconds=seconds,
        )
    return Stored(
        Trial.from_json(record),
        status,
        note,
        attempts,
        spent,
        initial or "",
        order or "",
        threads or 0,
        environment,
    )
