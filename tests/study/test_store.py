import sqlite3
from dataclasses import replace

import fakes
import pytest

from equipoise.study import Failure, Store, Trial
from equipoise.study.trial import GradientRow

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
    with Store(store.path, create=False) as reader:
        assert list(reader.trials()) == [TRIAL.id]


def test_a_missing_file_is_not_created_by_reading(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        Store(tmp_path / "none.db", create=False)
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
    with pytest.raises(ValueError, match="has schema 99, this version"):
        Store(store.path)
