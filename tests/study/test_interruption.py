"""A driver that is killed loses nothing that had finished."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
import tiny

TOML = """
problem = "{problem}"
problem_options = {{ pause = 0.05, log = "{log}" }}
methods = ["uw"]
learning_rates = [0.003, 0.03]
seeds = 2
epochs = 2
batch_size = 16
"""
TABLES = {
    "trial": "id, record, status, note, steps, samples, forwards, backwards, initial, batch_order",
    "metric": "*",
    "weight": "*",
    "gradient": "*",
}


def start(folder):
    # Options are part of a trial's identity: the log has the same relative name in every folder.
    file = folder / "study.toml"
    file.write_text(TOML.format(problem=f"{tiny.HERE}:tiny", log="log"))
    command = [sys.executable, "-m", "equipoise.cli", "run", str(file)]
    command += ["--out", "s.db", "--no-report", "--workers", "2", "--quiet"]
    return subprocess.Popen(command, cwd=folder, start_new_session=True)


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The content of a study that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert start(folder).wait(120) == 0
    return content(folder)


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see the workers")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_driver_loses_at_most_the_trials_that_ran(tmp_path, whole, how):
    driver = start(tmp_path)
    deadline = time.monotonic() + 60
    while finished(tmp_path) < 5:
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(driver.pid, how)
    driver.wait(30)
    # The workers notice by themselves.
    while processes_in(tmp_path):
        assert time.monotonic() < deadline, processes_in(tmp_path)
        time.sleep(0.02)
    kept, started = finished(tmp_path), begun(tmp_path)
    total = len(whole["trial"])
    assert 5 <= kept < total, "the driver was not stopped in the middle"
    # Each driver loads the training data once to describe the problem.
    assert started - 1 - kept <= 2, "more than the running trials were lost"

    assert start(tmp_path).wait(120) == 0
    assert content(tmp_path) == whole
    assert begun(tmp_path) - started == 1 + total - kept, "a finished trial ran twice"
