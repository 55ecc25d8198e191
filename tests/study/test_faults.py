"""Workers die, hang, raise, run out of memory; nothing that finished is lost, run twice, or changed."""

import os
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import fakes
import pytest
import tiny
from test_executors import TRIAL, measured

from equipoise.study import Inline, Local, Ray, Store, findings, run, warnings
from equipoise.study.executors.base import train
from equipoise.study.standing import seconds_left, standing

SPEC = {"methods": ["pcgrad"], "seeds": 2, "learning_rates": [0.01, 0.1], "epochs": 1}
# 2 single tasks, fixed weights, ew, rlw, rgw, pcgrad: 7 arms, each with 2 tuning trials and 2 final ones.
TRIALS = 28


def fault(trial):
    """What becomes of a trial's first attempt; None lets it run."""
    kinds = {
        ("ew", 0): "dies",
        ("rlw", 1): "raises",
        ("rgw", 0): "hangs",
        ("pcgrad", 1): "memory",
    }
    return kinds.get((trial.method, trial.seed)) if trial.stage == "final" else None


def faulty(trial):
    """Runs a trial unless it is one that fails while there is a file 'faults' here; keeps a log."""
    kind = fault(trial) if Path("faults").exists() else None
    with Path("log").open("a") as log:
        log.write(f"{trial.id} {kind}\n")
    if kind == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hangs":
        time.sleep(600)
    if kind == "raises":
        raise RuntimeError("no luck")
    if kind == "memory":
        raise MemoryError
    return train(trial)


def content(path):
    kept = "id, record, status, note, steps, samples, forwards, backwards, initial, batch_order, threads"
    with closing(sqlite3.connect(path)) as db:
        tables = {"trial": kept, "metric": "*", "weight": "*", "gradient": "*"}
        return {
            name: sorted(db.execute(f"SELECT {c} FROM {name}"), key=repr)
            for name, c in tables.items()
        }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The tables of the study when nothing happens to it."""
    path = tmp_path_factory.mktemp("whole") / "s.db"
    run(fakes.spec(**SPEC), path, Inline())
    assert len(content(path)["trial"]) == TRIALS
    return content(path)


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_whatever_happened_to_workers_the_study_ends_with_the_numbers_of_one_without(
    tmp_path, monkeypatch, whole
):
    monkeypatch.chdir(tmp_path)
    Path("faults").touch()
    place = Local(2, function=faulty, time_limit=20, retries=0)
    run(fakes.spec(**SPEC), "s.db", place)
    with Store("s.db", read_only=True) as store:
        failed = {t.trial.method: t.cause for t in store.trials().values() if t.status == "failed"}
        assert len(store.trials()) == TRIALS
    assert failed == {"ew": "death", "rlw": "error", "rgw": "time", "pcgrad": "memory"}
    Path("faults").unlink()
    run(fakes.spec(**SPEC), "s.db", place)
    assert content("s.db") == whole
    ran = Counter(line for line in Path("log").read_text().split("\n") if line.endswith(" None"))
    assert len(ran) == TRIALS and set(ran.values()) == {1}, "a finished trial ran twice"


@pytest.mark.parametrize("place", ["local", "ray"])
def test_the_same_study_gives_the_same_tables_wherever_it_runs(tmp_path, whole, place):
    if place == "ray":
        pytest.importorskip("ray")
    run(fakes.spec(**SPEC), tmp_path / "s.db", {"local": Local, "ray": Ray}[place](workers=2))
    assert content(tmp_path / "s.db") == whole


def nan_at_step_two(trial):
    import torch

    original, calls = torch.nn.functional.mse_loss, []

    def loss(*given):
        calls.append(1)
        return original(*given) * (float("nan") if len(calls) > 2 * 2 else 1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny.functional, "mse_loss", loss)
        return train(trial)


def test_a_loss_that_is_no_number_at_a_step_is_a_trial_that_diverged_and_not_a_failure():
    ((_, outcome),) = Local(1, function=nan_at_step_two).run([TRIAL])
    assert measured(outcome).status == "diverged"
    assert outcome.note == "the training loss of 'a' is not finite in epoch 1"
    assert outcome.cost.steps == 2


def raising_method(trial):
    import equipoise

    class Raising(equipoise.Balancer):
        def backward(self, *losses, **options):
            raise ArithmeticError("the method gives up")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equipoise, "Balancer", Raising)
        return train(trial)


def test_a_method_that_raises_is_a_failure_with_its_error():
    ((_, outcome),) = Local(1, function=raising_method).run([TRIAL])
    assert outcome.cause == "error"
    assert outcome.error.endswith("ArithmeticError: the method gives up")


def crowded(folder, **facts):
    class Told(Inline):
        def facts(self, trials):
            return facts

    path = folder / "s.db"
    run(fakes.spec(), path, Told(lambda trial: fakes.result(trial, (1.0, 1.0, 5.0))))
    with Store(path, read_only=True) as store:
        (environment,) = store.environments().values()
        return environment, [
            each.text for each in warnings(findings(store)) if each.id == "crowded"
        ]


def test_more_workers_than_cores_are_recorded_and_warned_of(tmp_path):
    environment, told = crowded(tmp_path, workers=3, threads=1, cores=2)
    assert (environment["workers"], environment["cores"]) == (3, 2)
    assert told[0].startswith(
        "3 workers of 1 thread shared 2 cores: times of steps are not comparable"
    )


@pytest.mark.parametrize(
    "facts", [{"workers": 2, "threads": 1, "cores": 2}, {"workers": 9, "cores": None}, {}]
)
def test_as_many_workers_as_cores_are_not_warned_of(tmp_path, facts):
    assert crowded(tmp_path, **facts)[1] == []


def test_the_standing_of_a_study_is_that_of_its_trials(tmp_path):
    path = tmp_path / "s.db"

    def outcome(trial):
        if trial.method == "rgw" and trial.seed == 1:
            raise RuntimeError
        if trial.method == "rlw":
            return replace(fakes.result(trial, (1.0, 1.0, 5.0)), status="diverged", note="loss")
        return fakes.result(trial, (1.0, 1.0, 5.0 + trial.learning_rate))

    run(fakes.spec(seeds=2), path, Inline(outcome))
    with Store(path, read_only=True) as store:
        told = {arm.label: arm for arm in standing(store)}
    assert told["ew"].tuning == ["done"] * 3 and told["ew"].finals == {0: "done", 1: "done"}
    assert told["rgw"].finals == {0: "done", 1: "failed"}
    # Nothing was chosen for it, so that its final trials never come.
    assert told["rlw"].tuning == ["diverged"] * 3 and set(told["rlw"].finals.values()) == {"none"}
    assert told["ew"].best == pytest.approx(0.0) and told["rlw"].best != told["rlw"].best


def test_the_time_left_follows_the_pace_of_the_last_trials(tmp_path):
    path = tmp_path / "s.db"
    run(fakes.spec(seeds=1), path, Inline(lambda trial: fakes.result(trial, (1.0, 1.0, 5.0))))
    with closing(sqlite3.connect(path)) as db, db:
        (rows,) = db.execute("SELECT count(*) FROM trial").fetchone()
        for place in range(1, rows + 1):
            when = f"2026-01-01T00:{place:02}:00+00:00"
            db.execute("UPDATE trial SET finished = ? WHERE rowid = ?", (when, place))
    with Store(path, read_only=True) as store:
        assert seconds_left(store, 3) == pytest.approx(180.0)
    with Store(tmp_path / "empty.db") as empty:
        assert seconds_left(empty, 3) is None
