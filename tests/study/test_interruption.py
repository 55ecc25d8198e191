"""A driver that is killed loses nothing that had finished."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import tiny
from typer.testing import CliRunner

from equipoise.cli.commands import app

TOML = """
problem = "{problem}"
problem_options = {{ pause = 0.05, log = "{log}" }}
methods = ["uw"]
learning_rates = [0.003, 0.03]
seeds = 3
epochs = 2
batch_size = 16
"""
TABLES = {
    "trial": "id, record, status, note, steps, samples, forwards, backwards, initial, batch_order",
    "metric": "*",
    "weight": "*",
    "gradient": "*",
}


RUN = ["run", "study.toml", "--out", "s.db", "--no-report", "--quiet"]


def write(folder):
    # Options are part of a trial's identity: the log has the same relative name in every folder.
    text = TOML.format(problem=f"{tiny.HERE}:tiny", log="log")
    (folder / "study.toml").write_text(text)


def start(folder):
    write(folder)
    command = [sys.executable, "-m", "equipoise.cli", *RUN, "--workers", "2"]
    # Where the tests themselves run in the background, a shell had Ctrl-C ignored.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, cwd=folder, start_new_session=True, preexec_fn=heed)


def content(folder):
    with closing(sqlite3.connect(folder / "s.db")) as db:
        return {
            table: sorted(db.execute(f"SELECT {columns} FROM {table}"))
            for table, columns in TABLES.items()
        }


def finished(folder):
    if not (folder / "s.db").exists():
        return 0
    with closing(sqlite3.connect(folder / "s.db")) as db:
        try:
            return db.execute("SELECT count(*) FROM trial").fetchone()[0]
        except sqlite3.OperationalError:
            return 0


def begun(folder):
    log = folder / "log"
    return Counter(log.read_text().split())["train"] if log.exists() else 0


def processes_in(folder):
    """Processes whose working directory is the folder: the driver and all its workers."""
    return [entry.name for entry in Path("/proc").glob("[0-9]*") if cwd(entry) == folder.resolve()]


def cwd(entry):
    try:
        return (entry / "cwd").resolve()
    except OSError:
        return None


def stop_in_the_middle(folder, how):
    """Starts a study, stops its driver after a few trials, and waits until all its workers are gone."""
    driver = start(folder)
    deadline = time.monotonic() + 60
    while finished(folder) < 5:
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(driver.pid, how)
    code = driver.wait(30)
    while processes_in(folder):
        assert time.monotonic() < deadline, processes_in(folder)
        time.sleep(0.02)
    # The driver itself loads the training data once, to describe the problem.
    assert begun(folder) - 1 - finished(folder) <= 2, "more than the running trials were lost"
    return code


proc = pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see the workers")


@proc
def test_a_killed_driver_loses_no_finished_trial_and_runs_none_twice(tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    write(whole)
    with monkeypatch.context() as there:
        there.chdir(whole)
        assert CliRunner().invoke(app, [*RUN, "--executor", "inline"]).exit_code == 0
    stop_in_the_middle(broken, signal.SIGKILL)
    kept, started = finished(broken), begun(broken)
    total = len(content(whole)["trial"])
    assert 5 <= kept < total, "the driver was not stopped in the middle"
    assert start(broken).wait(120) == 0
    assert content(broken) == content(whole)
    assert begun(broken) - started == 1 + total - kept, "a finished trial ran twice"


@proc
def test_ctrl_c_keeps_what_had_finished_and_leaves_no_worker(tmp_path):
    assert stop_in_the_middle(tmp_path, signal.SIGINT) == 130
    assert finished(tmp_path) >= 5


ENDLESS = f"""
from equipoise.study import Local, Trial
if __name__ == "__main__":
    trials = [
        Trial(problem={f"{tiny.HERE}:tiny"!r}, problem_options='{{"pause":600,"log":"log"}}', method="ew",
              stage="tune", seed=seed, learning_rate=0.1, epochs=1, batch_size=8)
        for seed in range(2)
    ]
    list(Local(2).run(trials))
"""


@proc
def test_workers_in_the_middle_of_a_long_trial_end_when_their_driver_is_killed(tmp_path):
    (tmp_path / "endless.py").write_text(ENDLESS)
    driver = subprocess.Popen([sys.executable, "endless.py"], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while begun(tmp_path) < 2:
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    assert len(processes_in(tmp_path)) >= 3
    driver.kill()
    driver.wait(30)
    while processes_in(tmp_path):
        assert time.monotonic() < deadline, "workers outlived their driver"
        time.sleep(0.02)
