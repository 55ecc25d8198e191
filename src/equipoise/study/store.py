"""The store: one SQLite file a study, written by the driver only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from equipoise.study import database, schema
from equipoise.study.database import StoreError, told
from equipoise.study.trial import FINISHED, Cost, Failure, Outcome, Result, Trial


@dataclass(frozen=True)
class Stored:
    """What the store knows of a trial, apart from its measurements.

    Attributes:
        trial: the trial.
        status: ``"done"``, ``"diverged"``, ``"pruned"`` or ``"failed"``.
        note: what diverged, or the error; empty otherwise.
        attempts: how often it was begun.
        cost: what it spent; None for a failed one.
        initial: digest of the initial weights.
        order: digest of the order of all training examples.
        threads: torch threads it ran with.
        environment: number of the environment it ran in.
        finished: when it was recorded, ISO 8601 in UTC.
        cause: how a failed one ended; see :class:`equipoise.study.Failure`.
    """

    trial: Trial
    status: str
    note: str
    attempts: int
    cost: Cost | None
    initial: str
    order: str
    threads: int
    environment: int
    finished: str = ""
    cause: str = ""


class Store:
    """One study's file.

    Args:
        path: the file; created where there is none.
        read_only: opens a file that is there, wherever it lies, and changes nothing. A file of an
            earlier version is read as it is; opened for writing, it is brought to this one.

    Raises:
        StoreError: a ValueError: there is no such file, it is no study, damaged, locked, of a newer
            version, or may not be written.
    """

    def __init__(self, path: str | Path, read_only: bool = False) -> None:
        self.path = Path(path)
        with told(self.path):
            self._db = (database.reading if read_only else database.writing)(self.path)
            try:
                if read_only:
                    self._understand()
                else:
                    with self._transaction():
                        self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        """Makes the tables, or brings them to this version."""
        if not self._tables():
            schema.create(self._db)
        else:
            found = self._version()
            if found == schema.SCHEMA:
                return
            schema.migrate(self._db, found)
        self._set("schema", schema.SCHEMA)

    def _understand(self) -> None:
        """An earlier version is brought to this one in memory, and the file left as it is."""
        if (found := self._version()) != schema.SCHEMA:
            file, self._db = self._db, database.in_memory(self._db)
            file.close()
            schema.migrate(self._db, found)

    def _tables(self) -> set[str]:
        return {row[0] for row in self._db.execute("SELECT name FROM sqlite_master")}

    def _version(self) -> int:
        if not {"meta", "trial"} <= self._tables():
            raise StoreError(f"{str(self.path)!r} is a database, but not of a study")
        found = self.get("schema")
        if not isinstance(found, int) or not 1 <= found <= schema.SCHEMA:
            raise StoreError(
                f"{str(self.path)!r} has schema {found}, and this version of equipoise knows schemas up "
                f"to {schema.SCHEMA}; use the version that wrote it, or another --out"
            )
        return found

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with told(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # A full disk may have ended the transaction already.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with told(self.path):
            return self._db.execute(query, values).fetchall()

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
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        return json.loads(rows[0][0]) if rows else None

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
            if self._status(trial.id) in FINISHED:
                return
            self._db.execute("DELETE FROM trial WHERE id = ?", (trial.id,))
            self._add(trial, outcome, self._environment(environment))

    def _add(self, trial: Trial, outcome: Outcome, environment: int) -> None:
        if isinstance(outcome, Failure):
            found: tuple[Any, ...] = ("failed", outcome.error, outcome.attempts, *[None] * 9)
            cause = outcome.cause
        else:
            cause = None
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
            cause,
        )
        self._insert("trial", [row])
        if isinstance(outcome, Result):
            for table in schema.MEASURED:
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

    def take(self, other: Store, trials: Iterable[str]) -> None:
        """Copies trials of another store with all they measured, in place of those of the same id."""
        wanted = set(trials)
        columns, rows = other.table("trial")
        place, at = columns.index("id"), columns.index("environment")
        environments = other.environments()
        with self._transaction():
            for row in rows:
                if row[place] in wanted:
                    here = list(row)
                    here[at] = self._environment(environments[row[at]])
                    self._forget(row[place])
                    self._insert("trial", [tuple(here)])
            for table in schema.MEASURED:
                measured = other.table(table)[1]
                self._insert(table, [row for row in measured if row[0] in wanted])

    def _forget(self, trial: str) -> None:
        for table in schema.MEASURED:
            self._db.execute(f"DELETE FROM {table} WHERE trial = ?", (trial,))
        self._db.execute("DELETE FROM trial WHERE id = ?", (trial,))

    def missing(self, trials: Iterable[Trial]) -> list[Trial]:
        """Those without a result, in the order given; a failed trial has none."""
        have = {row[0] for row in self._rows("SELECT id FROM trial WHERE status != 'failed'")}
        return list({trial.id: trial for trial in trials if trial.id not in have}.values())

    def trials(self) -> dict[str, Stored]:
        """All trials by id, failed ones too."""
        rows = self._rows(
            "SELECT record, status, note, attempts, steps, samples, forwards, backwards, step_ms, "
            "seconds, initial, batch_order, threads, environment, finished, cause FROM trial "
            "ORDER BY rowid"
        )
        try:
            return {stored.trial.id: stored for stored in map(_stored, rows)}
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"{str(self.path)!r} holds trials that this version of equipoise cannot read ({error})"
            ) from error

    def environments(self) -> dict[int, dict[str, Any]]:
        """The environments that trials ran in."""
        rows = self._rows("SELECT id, facts FROM environment ORDER BY id")
        return {number: json.loads(facts) for number, facts in rows}

    def table(self, name: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names and rows of a table (``trial``, ``metric``, ``weight``, ``gradient``)."""
        if name not in ("trial", *schema.MEASURED):
            raise ValueError(f"there is no table {name!r}")
        with told(self.path):
            cursor = self._db.execute(f"SELECT * FROM {name}")
            return [column[0] for column in cursor.description], cursor.fetchall()


def _stored(row: tuple[Any, ...]) -> Stored:
    record, status, note, attempts, *cost, initial, order, threads, environment, when, cause = row
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
        trial=Trial.from_json(record),
        status=status,
        note=note,
        attempts=attempts,
        cost=spent,
        initial=initial or "",
        order=order or "",
        threads=threads or 0,
        environment=environment,
        finished=when,
        cause=cause or "",
    )
