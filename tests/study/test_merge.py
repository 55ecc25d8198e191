import math
import sqlite3
from contextlib import closing
from dataclasses import replace

import fakes
import pytest
from test_run import Recorder

from equipoise.study import Failure, Store, run
from equipoise.study.export import export
from equipoise.study.lock import held, only_driver
from equipoise.study.merge import Merged, merge
from equipoise.study.shelf import entries, remove


def scores(trial):
    return (1.0 + trial.seed % 7, 1.0 / 3.0, 5.0 + trial.learning_rate)


def study(path, ends=lambda trial: None, scores=scores, **changes):
    """A store in which ``ends(trial)`` says how trials end that do not finish."""
    run(
        fakes.spec(seeds=3, **changes),
        path,
        Recorder(lambda trial: ends(trial) or fakes.result(trial, scores(trial))),
    )
    return path


def content(path):
    """Everything but dates, in an order of its own."""
    found = {}
    with closing(sqlite3.connect(path)) as db:
        for table in ("trial", "metric", "weight", "gradient"):
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            kept = ", ".join(name for name in columns if name not in ("finished", "environment"))
            found[table] = sorted(db.execute(f"SELECT {kept} FROM {table}"), key=repr)
    return found


def merged(first, second, out, **options):
    with Store(first, read_only=True) as one, Store(second, read_only=True) as two:
        return merge(one, two, out, **options)


def fails(seed):
    return lambda trial: Failure("no luck", cause="death") if trial.seed == seed else None


def test_two_halves_of_a_study_merge_to_the_whole(tmp_path):
    whole = study(tmp_path / "whole.db")
    first, second = study(tmp_path / "a.db", fails(0)), study(tmp_path / "b.db", fails(2))
    told = merged(first, second, tmp_path / "c.db")
    assert content(tmp_path / "c.db") == content(whole)
    # 6 arms with 3 tuning trials each, and 3 final ones, of which seed 0 is the second store's.
    assert told == Merged(first=30, second=6, both=24, different=0, largest=0.0)
    with Store(tmp_path / "c.db", read_only=True) as joined:
        assert joined.get("spec") == fakes.spec(seeds=3).model_dump(mode="json")


def test_a_key_that_came_after_a_store_was_written_keeps_nothing_apart(tmp_path):
    first, second = study(tmp_path / "a.db", fails(0)), study(tmp_path / "b.db", fails(2))
    with Store(first) as store:
        spec = store.get("spec")
        del spec["near_zero"]
        store.set(spec=spec)
    assert merged(first, second, tmp_path / "c.db").both == 24


def test_a_trial_that_failed_in_both_stays_failed(tmp_path):
    first, second = study(tmp_path / "a.db", fails(0)), study(tmp_path / "b.db", fails(0))
    merged(first, second, tmp_path / "c.db")
    assert content(tmp_path / "c.db") == content(first)


def test_other_numbers_for_the_same_trial_are_refused_unless_one_is_chosen(tmp_path):
    def other(trial):
        a, b, c = scores(trial)
        return (a * (1 + 1e-7), b, c) if trial.seed == 1 else (a, b, c)

    first, second = study(tmp_path / "a.db"), study(tmp_path / "b.db", scores=other)
    out = tmp_path / "c.db"
    with pytest.raises(ValueError, match=r"5 of 36 trials .* by up to 1e-07 .*--keep-first"):
        merged(first, second, out)
    assert not out.exists()
    told = merged(first, second, out, keep_first=True)
    assert told.different == 5 and told.largest == pytest.approx(1e-7)
    assert content(out) == content(first)


def test_stores_of_different_studies_do_not_merge(tmp_path):
    first, second = study(tmp_path / "a.db"), study(tmp_path / "b.db", epochs=3)
    with pytest.raises(ValueError, match="not the same study: they differ in epochs"):
        merged(first, second, tmp_path / "c.db")
    with Store(second) as store:
        store.set(spec=fakes.spec(seeds=3).model_dump(mode="json"), fingerprint="edited")
    with pytest.raises(ValueError, match="differ in their fingerprint"):
        merged(first, second, tmp_path / "c.db")
    with pytest.raises(ValueError, match="is there already"):
        merged(first, first, second)


def read(form, path):
    if form == "csv":
        import csv

        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        numbers = (float(row[-1]) for row in rows[1:])
        return rows[0], [(*row[:-1], number) for row, number in zip(rows[1:], numbers, strict=True)]
    if form == "json":
        import json

        rows = json.loads(path.read_text())
        return list(rows[0]), [(*map(str, list(row.values())[:-1]), row["value"]) for row in rows]
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(path)
    rows = [tuple(row.values()) for row in table.to_pylist()]
    return table.column_names, [(*map(str, row[:-1]), row[-1]) for row in rows]


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_exported_numbers_are_those_of_the_store_to_the_last_bit(tmp_path, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    path = study(tmp_path / "a.db", fails(0))
    with Store(path, read_only=True) as store:
        written = export(store, tmp_path / "out", form)
        columns, rows = store.table("metric")
    assert {each.name for each in written} == {
        "study.json", *(f"{name}.{form}" for name in ("trial", "metric", "weight", "gradient"))
    }  # fmt: skip
    found = read(form, tmp_path / "out" / f"metric.{form}")
    assert found[0] == columns
    assert found[1] == [(*map(str, row[:-1]), row[-1]) for row in rows]
    assert any(math.isclose(row[-1], 1 / 3) for row in rows)


def test_a_format_that_does_not_exist_is_refused(tmp_path):
    with Store(study(tmp_path / "a.db")) as store, pytest.raises(ValueError, match="known: csv"):
        export(store, tmp_path, "xlsx")


def test_a_folder_is_listed_with_what_finished_what_failed_and_what_is_damaged(tmp_path):
    study(tmp_path / "a.db", fails(0))
    whole = study(tmp_path / "b.db").read_bytes()
    (tmp_path / "c.db").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "d.db").write_text("notes")
    one, two, three = entries(tmp_path)
    assert (one.done, one.failed, one.protocol) == (30, 6, "litmus")
    assert (two.done, two.failed, two.trouble) == (36, 0, "")
    assert two.problem.endswith("tiny.py:tiny") and len(two.date) == len("2026-01-01 00:00")
    assert "damaged" in three.trouble


def test_a_store_is_removed_with_what_lies_beside_it_and_nothing_else(tmp_path):
    path = study(tmp_path / "a.db")
    for end in ("-wal", "-shm", "-lock"):
        path.with_name("a.db" + end).touch()
    other = study(tmp_path / "a.db.db")
    remove(path)
    assert {each.name for each in tmp_path.iterdir()} == {"a.db.db", "a.db.db-lock"}
    assert other.exists()


def test_a_store_is_not_removed_while_a_run_writes_to_it(tmp_path):
    path = study(tmp_path / "a.db")
    assert not held(path)
    with only_driver(path), pytest.raises(ValueError, match="another run is writing"):
        assert held(path)
        remove(path)
    assert path.exists() and not held(path)


def test_a_file_that_is_no_study_is_not_removed(tmp_path):
    (tmp_path / "notes.db").write_text("notes")
    with pytest.raises(ValueError, match="is not a study; it is left alone"):
        remove(tmp_path / "notes.db")
    assert (tmp_path / "notes.db").exists()


def test_trials_of_the_second_store_keep_their_environment(tmp_path):
    first, second = study(tmp_path / "a.db", fails(0)), study(tmp_path / "b.db")
    with Store(second) as store:
        (trial,) = [
            t for t in store.trials().values() if t.trial.seed == 0 and t.trial.method == "ew"
        ]
        moved = replace(trial.trial, seed=9)
        store.add(moved, fakes.result(moved, (1, 1, 1)), {"system": "elsewhere"})
    merged(first, second, tmp_path / "c.db")
    with Store(tmp_path / "c.db", read_only=True) as joined:
        there = joined.trials()[moved.id].environment
        assert joined.environments()[there] == {"system": "elsewhere"}
