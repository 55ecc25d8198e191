"""The tables of a store, and how a file of an earlier version becomes one of this version."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping

from equipoise.study.trial import Trial, canonical

SCHEMA = 3
TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE environment (id INTEGER PRIMARY KEY, facts TEXT NOT NULL UNIQUE);
CREATE TABLE trial (
    id TEXT PRIMARY KEY, record TEXT NOT NULL,
    stage TEXT NOT NULL, method TEXT NOT NULL, method_options TEXT NOT NULL, task TEXT,
    learning_rate REAL NOT NULL, seed INTEGER NOT NULL,
    status TEXT NOT NULL, note TEXT NOT NULL, attempts INTEGER NOT NULL,
    steps INTEGER, samples INTEGER, forwards INTEGER, backwards INTEGER, step_ms REAL, seconds REAL,
    initial TEXT, batch_order TEXT, threads INTEGER,
    finished TEXT NOT NULL, environment INTEGER NOT NULL REFERENCES environment (id), cause TEXT);
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
# What a trial measured, a row each; the first column is the trial.
MEASURED = ("metric", "weight", "gradient")


def create(db: sqlite3.Connection) -> None:
    """Makes the tables, inside the transaction of the caller."""
    for statement in TABLES.split(";"):
        db.execute(statement)


def migrate(db: sqlite3.Connection, found: int) -> None:
    """Brings tables of version ``found`` to :data:`SCHEMA`, inside the transaction of the caller."""
    for version in range(found, SCHEMA):
        MIGRATIONS[version](db)


def _failures_have_a_cause(db: sqlite3.Connection) -> None:
    """1 to 2: a failed trial says which kind of end it came to, and not only in its text."""
    db.execute("ALTER TABLE trial ADD COLUMN cause TEXT")
    db.execute(
        "UPDATE trial SET cause = CASE WHEN note LIKE 'the worker ended %' THEN 'death' "
        "ELSE 'error' END WHERE status = 'failed'"
    )


def _identity_by_what_is_given(db: sqlite3.Connection) -> None:
    """2 to 3: trials are known by what is not at its default; a study has a problem for every setting."""
    db.execute("PRAGMA defer_foreign_keys = ON")
    for old, record in db.execute("SELECT id, record FROM trial").fetchall():
        new = Trial.from_json(record)
        db.execute("UPDATE trial SET id = ?, record = ? WHERE id = ?", (new.id, new.to_json(), old))
        for table in MEASURED:
            db.execute(f"UPDATE {table} SET trial = ? WHERE trial = ?", (new.id, old))
    facts = dict(db.execute("SELECT key, value FROM meta").fetchall())
    if "problem" in facts:
        options = canonical(json.loads(facts["spec"]).get("problem_options", {}))
        told = json.dumps({options: json.loads(facts["problem"])})
        db.execute("DELETE FROM meta WHERE key = 'problem'")
        db.execute("INSERT INTO meta VALUES ('problems', ?)", (told,))


# By the version that each starts from.
MIGRATIONS: Mapping[int, Callable[[sqlite3.Connection], None]] = {
    1: _failures_have_a_cause,
    2: _identity_by_what_is_given,
}
