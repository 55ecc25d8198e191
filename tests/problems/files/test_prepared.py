"""Arrays that are decoded once: whole or not there, resumed where a run was killed, checked by their sums."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from equipoise.problems.files import Recipe, build, ready
from equipoise.problems.files.prepared import CHUNK, JOURNAL, damaged, place

ROWS = 3 * CHUNK + 5


def recipe(decoded=None, rows=ROWS, key="small"):
    def decode(folder, item):
        if decoded is not None:
            decoded.append(item)
        return {"x": np.full((2, 3), int(item), np.int16), "y": np.array(int(item) % 7)}

    return Recipe(
        key=key,
        items=tuple(map(str, range(rows))),
        layout={"x": ((2, 3), "int16"), "y": ((), "int64")},
        decode=decode,
    )


def test_rows_come_back_as_they_were_decoded(tmp_path):
    told = []
    assert ready(tmp_path, recipe()) is None
    build(tmp_path, recipe(), lambda done, of: told.append((done, of)))
    arrays = ready(tmp_path, recipe())
    assert np.array_equal(arrays["x"][:, 1, 2], np.arange(ROWS))
    assert np.array_equal(arrays["y"], np.arange(ROWS) % 7)
    assert told[0] == (0, ROWS) and told[-1] == (ROWS, ROWS)
    assert not list(damaged(tmp_path, recipe()))


def test_what_is_there_is_not_decoded_again(tmp_path):
    build(tmp_path, recipe())
    decoded = []
    build(tmp_path, recipe(decoded))
    assert not decoded


def test_a_row_that_cannot_be_decoded_keeps_those_before_it(tmp_path):
    good = recipe()

    def broken(folder, item):
        if int(item) == CHUNK + 3:
            raise ValueError("67.jpg: it is truncated")
        return good.decode(folder, item)

    with pytest.raises(ValueError, match="it is truncated"):
        build(tmp_path, Recipe(key="small", items=good.items, layout=good.layout, decode=broken))
    assert ready(tmp_path, good) is None
    decoded = []
    build(tmp_path, recipe(decoded))
    assert min(map(int, decoded)) == CHUNK and len(decoded) == ROWS - CHUNK


def test_a_killed_run_leaves_nothing_half_valid_and_is_resumed(tmp_path):
    script = textwrap.dedent(f"""
        import time
        import numpy as np
        from pathlib import Path
        from equipoise.problems.files import Recipe, build
        def decode(folder, item):
            time.sleep(0.002)
            return {{"x": np.full((2, 3), int(item), np.int16), "y": np.array(int(item) % 7)}}
        build(Path({str(tmp_path)!r}), Recipe(
            key="small", items=tuple(map(str, range({ROWS}))),
            layout={{"x": ((2, 3), "int16"), "y": ((), "int64")}}, decode=decode))
    """)
    run = subprocess.Popen([sys.executable, "-c", script])
    journal = tmp_path / "prepared" / "small.part" / JOURNAL
    while not (journal.is_file() and len(journal.read_text().splitlines()) > 2):
        assert run.poll() is None
        time.sleep(0.005)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    if ready(tmp_path, recipe()) is None:  # or it was quicker than the signal
        decoded = []
        build(tmp_path, recipe(decoded))
        assert len(decoded) < ROWS
    assert np.array_equal(ready(tmp_path, recipe())["x"][:, 0, 0], np.arange(ROWS))


def test_a_chunk_that_was_not_written_whole_is_decoded_again(tmp_path):
    build(tmp_path, recipe())
    there = place(tmp_path, recipe())
    part = there.with_name("small.part")
    there.rename(part)
    lines = (part / JOURNAL).read_text().splitlines(keepends=True)
    (part / JOURNAL).write_text("".join(lines[:3]) + lines[3][: len(lines[3]) // 2])
    array = np.load(part / "x.npy", mmap_mode="r+")
    array[CHUNK + 1] = -1
    array.flush()
    decoded = []
    build(tmp_path, recipe(decoded))
    assert min(map(int, decoded)) == CHUNK
    assert np.array_equal(ready(tmp_path, recipe())["x"][:, 0, 0], np.arange(ROWS))


@pytest.mark.parametrize("spoil", ["flip", "shorten", "journal", "array gone"])
def test_damage_is_told_and_mended(tmp_path, spoil):
    build(tmp_path, recipe())
    there = place(tmp_path, recipe())
    file = there / "x.npy"
    if spoil == "flip":
        content = bytearray(file.read_bytes())
        content[-9] ^= 4
        file.write_bytes(content)
    elif spoil == "shorten":
        file.write_bytes(file.read_bytes()[:-50])
    elif spoil == "journal":
        (there / JOURNAL).unlink()
    else:
        file.unlink()
    (complaint,) = damaged(tmp_path, recipe())
    assert str(there) in complaint and "equipoise data prepare" in complaint
    build(tmp_path, recipe())
    assert not list(damaged(tmp_path, recipe()))
    assert np.array_equal(ready(tmp_path, recipe())["x"][:, 0, 0], np.arange(ROWS))


def test_arrays_of_other_files_are_not_taken(tmp_path):
    build(tmp_path, recipe())
    assert ready(tmp_path, recipe(rows=ROWS - 1)) is None
    assert "other files" in next(iter(damaged(tmp_path, recipe(rows=ROWS - 1))))


def test_a_row_of_another_shape_is_named(tmp_path):
    wrong = Recipe(
        key="w",
        items=("7.png",),
        layout={"x": ((2,), "int8")},
        decode=lambda f, i: {"x": np.ones(3)},
    )
    with pytest.raises(ValueError, match=r"7\.png: x has the shape \[3\] and should have \[2\]"):
        build(tmp_path, wrong)


def test_the_journal_is_lines_of_json(tmp_path):
    build(tmp_path, recipe())
    lines = (place(tmp_path, recipe()) / JOURNAL).read_text().splitlines()
    assert json.loads(lines[0])["rows"] == ROWS
    assert [json.loads(line)["start"] for line in lines[1:]] == list(range(0, ROWS, CHUNK))
