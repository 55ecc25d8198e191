"""Data decoded once: stopped and gone on with, damaged and told."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from equipoise.problems.files import Recipe, build, prepared, ready
from equipoise.problems.files.prepared import CHUNK, JOURNAL, damaged, place

ROWS = 150


def recipe(decode=None, rows=ROWS, kind="uint8"):
    def plain(folder: Path, item: str):
        return {"a": np.full(3, int(item) % 250), "b": np.float32(item)}

    return Recipe(
        key="small",
        items=[str(row) for row in range(rows)],
        layout={"a": ((3,), kind), "b": ((), "float32")},
        decode=decode or plain,
    )


def test_arrays_hold_every_row(tmp_path):
    assert ready(tmp_path, recipe()) is None
    there = build(tmp_path, recipe())
    arrays = ready(tmp_path, recipe())
    np.testing.assert_array_equal(arrays["a"][:, 0], np.arange(ROWS) % 250)
    np.testing.assert_array_equal(arrays["b"], np.arange(ROWS))
    assert not list(damaged(tmp_path, recipe()))
    assert there == place(tmp_path, recipe())


def test_a_row_that_cannot_be_decoded_keeps_what_was_before(tmp_path):
    decoded = []

    def failing(folder, item):
        decoded.append(item)
        if item == str(CHUNK + 5):
            raise ValueError("broken")
        return {"a": np.zeros(3), "b": np.float32(0)}

    with pytest.raises(ValueError, match="broken"):
        build(tmp_path, recipe(failing))
    decoded.clear()
    with pytest.raises(ValueError, match="broken"):
        build(tmp_path, recipe(failing))
    assert str(CHUNK - 1) not in decoded
    assert str(CHUNK) in decoded


def test_numbers_that_do_not_fit_are_refused_and_not_wrapped(tmp_path):
    wide = recipe(
        lambda folder, item: {"a": np.array([1, 200, 3]), "b": np.float32(0)}, kind="int8"
    )
    with pytest.raises(ValueError, match="int8 cannot hold"):
        build(tmp_path, wide)


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(prepared.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="make room"):
        build(tmp_path, recipe())


def test_arrays_of_other_files_are_not_taken(tmp_path):
    build(tmp_path, recipe())
    assert ready(tmp_path, recipe(rows=ROWS - 1)) is None
    assert list(damaged(tmp_path, recipe(rows=ROWS - 1)))


@pytest.mark.parametrize("name", ["a.npy", "b.npy", JOURNAL])
def test_every_flipped_byte_of_a_number_is_found_and_mended(tmp_path, name):
    there = build(tmp_path, recipe())
    path = there / name
    content = bytearray(path.read_bytes())
    content[-7] ^= 0x10
    path.write_bytes(content)
    (line,) = damaged(tmp_path, recipe())
    assert "prepare" in line
    build(tmp_path, recipe())
    assert not list(damaged(tmp_path, recipe()))


def test_a_truncated_array_is_told(tmp_path):
    there = build(tmp_path, recipe())
    path = there / "b.npy"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="prepare"):
        ready(tmp_path, recipe())


@pytest.mark.skipif(sys.platform == "win32", reason="no advisory locks")
def test_two_at_once_are_refused(tmp_path):
    seen = []

    def curious(folder, item):
        if item == "0":
            with pytest.raises(ValueError, match="another process"):
                build(tmp_path, recipe())
            seen.append(item)
        return {"a": np.zeros(3), "b": np.float32(0)}

    build(tmp_path, recipe(curious))
    assert seen


SLOW = """
import sys, time
from pathlib import Path
import numpy as np
from equipoise.problems.files import Recipe, build

def decode(folder, item):
    time.sleep(0.002)
    return {"a": np.full(3, int(item) % 250), "b": np.float32(item)}

layout = {"a": ((3,), "uint8"), "b": ((), "float32")}
items = [str(n) for n in range(3000)]
build(Path(sys.argv[1]), Recipe(key="small", items=items, layout=layout, decode=decode))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path)])
    part = tmp_path / "prepared" / "small.part" / JOURNAL
    for _ in range(6000):
        if part.exists() and len(part.read_bytes().splitlines()) > 3:
            break
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = sum(
        "start" in json.loads(line) for line in part.read_text().splitlines() if line[-1] == "}"
    )
    decoded = []

    def counting(folder, item):
        decoded.append(int(item))
        return {"a": np.full(3, int(item) % 250), "b": np.float32(item)}

    build(tmp_path, recipe(counting, rows=3000))
    assert min(decoded) == done * CHUNK
    assert sorted(decoded) == list(range(done * CHUNK, 3000))
    np.testing.assert_array_equal(ready(tmp_path, recipe(rows=3000))["b"], np.arange(3000))
