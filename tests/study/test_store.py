import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import fakes
import pytest

from equipoise.study import Failure, Store, StoreError, Trial, database, schema
from equipoise.study.trial import GradientRow, canonical

TRIAL = Trial(
    problem="p", method="ew", stage="final", seed=0, learning_rate=0.1, epochs=2, batch_size=8
)
RESULT = replace(fakes.result(TRIAL, (1.0, 2.0, 3.0)), gradients=(GradientRow(1, "a", "b", -0.5),))
ENVIRONMENT = {"python": "3"}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "new" / "study.db") as opened:
        yield opened


def test_a_result_can_be_read_back(store):
    store.add(TRIAL, RESULT, ENVIRONMENT)
    (stored,) = store.trials().values()
    assert (stored.trial, stored.status, stored.cost) == (TRIAL, "done", RESULT.cost)
    assert (stored.initial, stored.order) == (RESULT.initial, RESULT.order)
    assert store.environments() == {stored.environment: ENVIRONMENT}
    columns, rows = store.table("metric")
    assert columns == ["trial", "epoch", "split", "task", "metric", "value"]
    assert {row[1:] for row in rows} == {
        (m.epoch, m.split, m.task, m.metric, m.value) for m in RESULT.metrics
    }
    assert store.table("gradient")[1] == [(TRIAL.id, 1, "a", "b", -0.5)]


def test_a_finished_trial_is_never_replaced(store):
    store.add(TRIAL, RESULT, ENVIRONMENT)
    store.add(TRIAL, fakes.result(TRIAL, (9.0, 9.0, 9.0)), ENVIRONMENT)
    store.add(TRIAL, Failure("too late"), ENVIRONMENT)
    assert store.trials()[TRIAL.id].status == "done"
    assert 9.0 not in [row[-1] for row in store.table("metric")[1]]


def test_a_failed_trial_is_kept_and_gives_way_to_a_result(store):
    store.add(TRIAL, Failure("Traceback\nValueError: no", attempts=2), ENVIRONMENT)
    failed = store.trials()[TRIAL.id]
    assert (failed.status, failed.attempts, failed.cost) == ("failed", 2, None)
    assert failed.note.endswith("ValueError: no")
    assert store.missing([TRIAL]) == [TRIAL]
    store.add(TRIAL, RESULT, ENVIRONMENT)
    assert store.trials()[TRIAL.id].status == "done"
    assert store.missing([TRIAL]) == []


def test_what_is_missing_comes_in_order_and_once(store):
    others = [replace(TRIAL, seed=seed) for seed in (3, 1, 2, 1)]
    store.add(others[2], fakes.result(others[2], (1, 1, 1)), ENVIRONMENT)
    assert [trial.seed for trial in store.missing(others)] == [3, 1]


def test_a_result_is_written_whole_or_not_at_all(store):
    doubled = replace(RESULT, metrics=RESULT.metrics * 2)
    with pytest.raises(sqlite3.IntegrityError):
        store.add(TRIAL, doubled, ENVIRONMENT)
    assert store.trials() == {} and store.table("metric")[1] == []


def test_readers_see_a_study_that_is_being_written(store):
    store.add(TRIAL, RESULT, ENVIRONMENT)
    with Store(store.path, read_only=True) as reader:
        assert list(reader.trials()) == [TRIAL.id]


def test_a_missing_file_is_not_created_by_reading(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        Store(tmp_path / "none.db", read_only=True)
    assert not (tmp_path / "none.db").exists()


def test_a_file_that_is_no_study_is_left_alone(tmp_path):
    text = tmp_path / "notes.db"
    text.write_text("not a database, but long enough to be taken for one by its size alone" * 20)
    with pytest.raises(ValueError, match="is not a study"):
        Store(text)
    assert text.read_text().startswith("not a database")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE birds (name TEXT)")
    with pytest.raises(ValueError, match="not of a study"):
        Store(other)


def test_a_study_of_another_schema_is_refused(store):
    store.set(schema=99)
    with pytest.raises(ValueError, match="has schema 99, and this version"):
        Store(store.path)


def version_one(path):
    """A study as version 1 of the schema wrote it: a trial that finished and two that failed."""
    older = schema.TABLES.replace(", cause TEXT)", ")")
    assert "cause" not in older
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(older)
        db.execute("PRAGMA journal_mode = WAL")
        facts = {"schema": 1, "version": "0.1.0", "problem": {"name": "p"}}
        facts["spec"] = {"problem": "p", "problem_options": {"width": 8}}
        rows = [(key, json.dumps(value)) for key, value in facts.items()]
        db.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        db.execute("INSERT INTO environment VALUES (1, '{}')")
        notes = (
            ("done", ""),
            ("failed", "ValueError: no"),
            ("failed", "the worker ended by signal 9"),
        )
        for seed, (status, note) in enumerate(notes):
            trial = replace(TRIAL, seed=seed)
            id_, record = as_it_was(trial)
            row = (id_, record, "final", "ew", "{}", None, 0.1, seed, status, note, 1)
            row += (*[None] * 9, "2026-01-01T00:00:00+00:00", 1)
            db.execute(f"INSERT INTO trial VALUES ({', '.join('?' * len(row))})", row)
        id_ = as_it_was(replace(TRIAL, seed=0))[0]
        db.execute("INSERT INTO metric VALUES (?, 1, 'test', 'a', 'rmse', 0.5)", (id_,))
    return path


def as_it_was(trial):
    """Identity and record before version 3: all fields there were then, at their default or not."""
    fields = {k: v for k, v in asdict(trial).items() if k not in ("flatness", "bars")}
    record = canonical(fields)
    return hashlib.sha256(record.encode()).hexdigest(), record


def columns(path):
    with closing(sqlite3.connect(path)) as db:
        return {
            table: db.execute(f"PRAGMA table_info({table})").fetchall()
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_store_of_version_one_is_migrated_when_it_is_opened_to_be_written(tmp_path, store):
    path = version_one(tmp_path / "old.db")
    with Store(path) as opened:
        causes = [each.cause for each in opened.trials().values()]
        assert opened.get("schema") == schema.SCHEMA and opened.get("version") == "0.1.0"
        first = replace(TRIAL, seed=0)
        assert opened.table("metric")[1] == [(first.id, 1, "test", "a", "rmse", 0.5)]
        assert opened.trials()[first.id].trial == first
        assert opened.get("problems") == {'{"width":8}': {"name": "p"}}
        assert opened.get("problem") is None
    assert causes == ["", "error", "death"]
    assert columns(path) == columns(store.path)


def test_a_store_of_version_one_is_read_as_it_is(tmp_path):
    path = version_one(tmp_path / "old.db")
    before = digest(path)
    with Store(path, read_only=True) as opened:
        assert [each.cause for each in opened.trials().values()] == ["", "error", "death"]
    assert digest(path) == before


def test_a_migration_that_breaks_off_leaves_the_store_as_it_was(tmp_path, monkeypatch):
    path = version_one(tmp_path / "old.db")
    before = columns(path)

    def breaks_off(db):
        db.execute("ALTER TABLE trial ADD COLUMN half TEXT")
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(schema, "MIGRATIONS", {1: breaks_off})
    with pytest.raises(StoreError, match="make room"):
        Store(path)
    assert columns(path) == before


def test_what_is_read_only_cannot_be_written(store):
    store.add(TRIAL, RESULT, ENVIRONMENT)
    with (
        Store(store.path, read_only=True) as reader,
        pytest.raises(StoreError, match="only be read"),
    ):
        reader.set(version="2")


READ = """
import os, sys, tempfile
from equipoise.study import Store
if os.geteuid() == 0:  # who may write everywhere
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
assert not os.access(sys.argv[1], os.W_OK)
with Store(sys.argv[1], read_only=True) as store:
    print(len(store.trials()))
"""


def read_by_a_guest(path):
    """Reads the store in a process that may write neither the file nor its folder."""
    path.chmod(0o444)
    path.parent.chmod(0o555)
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    path.parent.chmod(0o755)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.fixture
def open_folder():
    """A folder that everybody may enter, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


unix = pytest.mark.skipif(os.name == "nt", reason="permissions of Unix")


@unix
def test_a_finished_store_is_read_where_nothing_may_be_written(open_folder):
    path = open_folder / "study.db"
    with Store(path) as written:
        written.add(TRIAL, RESULT, ENVIRONMENT)
    assert read_by_a_guest(path) == 1
    assert [each.name for each in open_folder.iterdir()] == ["study.db"]


@unix
def test_what_a_killed_driver_left_in_its_log_is_read_where_nothing_may_be_written(open_folder):
    path = open_folder / "study.db"
    killed = (
        "import os, sys; sys.path[:0] = sys.argv[2:]; import test_store as t; store = t.Store(sys.argv[1])\n"
        "store.add(t.TRIAL, t.RESULT, t.ENVIRONMENT); os._exit(1)"
    )
    subprocess.run(
        [sys.executable, "-c", killed, str(path), str(Path(__file__).parent)], check=False
    )
    log = path.with_name("study.db-wal")
    assert log.stat().st_size > 0
    path.with_name("study.db-shm").unlink()
    log.chmod(0o444)
    assert read_by_a_guest(path) == 1


def test_a_damaged_store_is_told_and_left_alone(tmp_path):
    path = tmp_path / "study.db"
    with Store(path) as written:
        for seed in range(40):
            trial = replace(TRIAL, seed=seed)
            written.add(trial, fakes.result(trial, (1.0, 2.0, 3.0)), ENVIRONMENT)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    before = digest(path)
    with pytest.raises(StoreError, match=r"is damaged .*left as it is: use another --out"):
        Store(path)
    with pytest.raises(StoreError, match="is damaged"), Store(path, read_only=True) as reader:
        reader.trials()
    assert digest(path) == before


def test_a_store_locked_by_another_program_is_told_and_nothing_is_lost(store, monkeypatch):
    store.add(TRIAL, RESULT, ENVIRONMENT)
    monkeypatch.setattr(database, "PATIENCE", 0.01)
    other = replace(TRIAL, seed=1)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as browser:
        browser.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            StoreError, match=r"locked by another program.*what had finished is kept"
        ):
            Store(store.path)
        browser.execute("ROLLBACK")
    with Store(store.path) as again:
        assert again.missing([TRIAL, other]) == [other]


def test_a_folder_in_place_of_the_file_is_told(tmp_path):
    with pytest.raises(StoreError, match="is a folder; name a file in it"):
        Store(tmp_path)
    with pytest.raises(StoreError, match="is a folder; 'equipoise run' writes"):
        Store(tmp_path, read_only=True)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        Store(tmp_path / "file" / "folder" / "study.db")


FULL = """
import resource, sys
sys.path[:0] = sys.argv[2:]
import test_store as t
with t.Store(sys.argv[1]) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    for seed in range(1000):
        trial = t.replace(t.TRIAL, seed=seed)
        try:
            store.add(trial, t.fakes.result(trial, (1.0, 2.0, 3.0)), t.ENVIRONMENT)
        except t.StoreError as error:
            print(seed)
            print(error, file=sys.stderr)
            break
"""


@unix
def test_a_full_disk_is_told_and_every_trial_recorded_before_is_kept(tmp_path):
    path = tmp_path / "study.db"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), str(Path(__file__).parent)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "make room and give the same command again" in done.stderr
    kept = int(done.stdout)
    with Store(path) as again:
        assert kept > 0 and len(again.trials()) == kept
        again.add(replace(TRIAL, seed=5000), RESULT, ENVIRONMENT)
