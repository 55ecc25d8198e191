"""Opens the SQLite file of a study, to write or to read, and says in a sentence what is wrong with it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

# Seconds to wait for another program that holds the file.
PATIENCE = 10.0


class StoreError(ValueError):
    """The file of a study cannot be used as it is; the message says why and what to do."""


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What SQLite finds wrong with a file becomes a sentence.

    Raises:
        StoreError: it found something.
    """
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except sqlite3.DatabaseError as error:
        raise StoreError(_sentence(path, str(error))) from error


def _sentence(path: Path, error: str) -> str:
    name = repr(str(path))
    if "locked" in error:
        return (
            f"{name} is locked by another program, such as a database browser ({error}); close it and "
            f"give the same command again: what had finished is kept"
        )
    if "full" in error or "disk I/O" in error:
        return (
            f"{name} could not be read or written ({error}): the disk or a quota may be full, or the "
            f"drive gone; make room and give the same command again: what had finished is kept"
        )
    if "readonly" in error or "read-only" in error:
        return f"{name} may only be read ({error}); use another --out, or change its permissions"
    if "unable to open" in error:
        return f"{name} could not be opened ({error}): check the permissions of file and folder"
    if "not a database" in error:
        return f"{name} is not a study ({error})"
    return (
        f"{name} is damaged ({error}); it is left as it is: use another --out, and try to save what it "
        f"holds with: sqlite3 {path.name} .recover"
    )


def refuse_folder(path: Path) -> None:
    """Refuses a folder in place of a file.

    Raises:
        StoreError: it is one.
    """
    if path.is_dir():
        raise StoreError(
            f"{str(path)!r} is a folder; name a file in it: {str(path / 'study.db')!r}"
        )


def writing(path: Path) -> sqlite3.Connection:
    """A connection that writes; makes file and folder where there are none.

    Raises:
        StoreError: the folder cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the folder of {str(path)!r} cannot be made ({error.strerror}); use another --out"
        ) from error
    refuse_folder(path)
    db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    try:
        # WAL: readers see a consistent study while the driver writes, and a killed driver leaves the
        # file as its last finished transaction left it.
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        (state,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if state != "ok":
            raise sqlite3.DatabaseError(state)
    except BaseException:
        db.close()
        raise
    return db


def reading(path: Path) -> sqlite3.Connection:
    """A connection that only reads, wherever the file lies.

    SQLite wants to write beside a file that it reads, to keep readers and a writer apart. Where it must
    not, nobody else writes either, and the file is taken as it stands.

    Raises:
        StoreError: there is no such file.
    """
    if not path.is_file():
        found = f"{str(path)!r} is a folder" if path.is_dir() else f"there is no file {str(path)!r}"
        raise StoreError(f"{found}; 'equipoise run' writes studies, 'equipoise ls' lists them")
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        try:
            return _tried(path, "mode=rw")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        return _copied(path, log)
    return _tried(path, "mode=ro&immutable=1")


def _tried(path: Path, how: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.resolve()))}?{how}"
    db = sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)
    try:
        db.execute("PRAGMA query_only = ON")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _copied(path: Path, log: Path) -> sqlite3.Connection:
    """The file with the transactions that a killed driver left in its log, in memory."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "study.db"
        shutil.copyfile(path, copy)
        shutil.copyfile(log, copy.with_name("study.db-wal"))
        with closing(sqlite3.connect(copy)) as db:
            return in_memory(db)


def in_memory(db: sqlite3.Connection) -> sqlite3.Connection:
    """A copy in memory."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    db.backup(copy)
    return copy
