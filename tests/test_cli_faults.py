"""Whatever a user can cause on the command line is told: no traceback, an exit code, nothing lost."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from equipoise.cli.commands import app
from equipoise.study import Store
from equipoise.study.lock import only_driver

TINY = Path(__file__).parent / "study" / "tiny.py"
STUDY = """
problem = "{problem}"
learning_rates = [0.01, 0.03]
tuning = "once"
seeds = 3
epochs = 2
batch_size = 16
methods = [{{ id = "uw_so", search = {{ temperature = [1.0, 2.0] }}, learning_rates = [0.02] }}]
"""
INLINE = ["--executor", "inline", "--out", "out.db", "--no-report"]
COMMAND = [sys.executable, "-c", "from equipoise_command import main; main()"]

unix = pytest.mark.skipif(os.name == "nt", reason="signals and limits of Unix")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(STUDY.format(problem=f"{TINY}:tiny"))
    return tmp_path


@pytest.fixture
def call(folder):
    def run(*arguments, **options):
        return CliRunner().invoke(app, list(arguments), catch_exceptions=False, **options)

    return run


def own(call, source):
    """Runs a study of a problem file of one's own."""
    Path("own.py").write_text(source)
    Path("own.toml").write_text(STUDY.format(problem="own.py:build"))
    return call("run", "own.toml", *INLINE)


@pytest.mark.parametrize(
    ("source", "error", "line", "text"),
    [
        ("x = 1\ndef build(:\n    pass\n", "SyntaxError: ", 2, "def build(:"),
        ("import torch\nimport nowhere\n", "ModuleNotFoundError: ", 2, "import nowhere"),
        ("def build():\n    return {}['a']\n", "KeyError: 'a'", 2, "return {}['a']"),
        ("import sys\nsys.exit('used alone')\n", "SystemExit: ", 2, "sys.exit('used alone')"),
        (
            f"import sys\nsys.path.append({str(TINY.parent)!r})\nimport tiny, dataclasses\n"
            "def data(name):\n    raise OSError('no data here')\n"
            "def build():\n    return dataclasses.replace(tiny.tiny(), data=data)\n",
            "OSError: no data here", 5, "raise OSError('no data here')",
        ),
    ],
)  # fmt: skip
def test_an_error_in_ones_own_file_is_told_with_its_line(call, source, error, line, text):
    done = own(call, source)
    assert done.exit_code == 2 and "Traceback" not in done.stderr
    assert error in done.stderr.splitlines()[0]
    assert f"own.py, line {line}" in done.stderr and f"\n    {text}\n" in done.stderr
    assert not Path("out.db").exists()


def test_when_every_trial_fails_the_exit_code_and_the_first_error_say_so(call):
    Path("own.toml").write_text(STUDY.format(problem=f"{TINY}:untrainable"))
    done = call("run", "own.toml", *INLINE)
    assert done.exit_code == 1 and "Traceback" not in done.stderr
    assert "nothing could be compared: no final trial of a method finished" in done.stderr
    assert "RuntimeError: this model cannot be trained" in done.stderr
    shown = call("show", "out.db")
    assert "failed (error), 1 x: RuntimeError: this model cannot be trained" in shown.stdout
    whole = call("show", "out.db", "--tracebacks").stdout
    assert "Traceback (most recent call last)" in whole and "tiny.py" in whole


def test_too_few_seeds_compare_nothing_which_the_exit_code_and_a_sentence_say(call):
    done = call("run", "study.toml", *INLINE, "--seeds", "2")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == (
        "equipoise: nothing could be compared: 2 seeds cannot tell a difference from chance; take 3 or more, "
        "5 if you can (seeds = 5 in the study, or --seeds 5): what has run is kept"
    )
    assert "Nothing can be said yet" in done.stdout


def test_nothing_is_compared_where_one_run_is_left_of_each_method(call):
    Path("own.toml").write_text(
        STUDY.format(problem=f"{TINY}:explosive")
        .replace("[0.02]", "[5.0]")
        .replace("0.01, 0.03", "3.0, 5.0")
    )
    done = call("run", "own.toml", *INLINE)
    assert done.exit_code == 1 and "trials diverged, 0 failed, the first with: " in done.stderr


def test_inline_lets_errors_through_on_request(call):
    Path("own.toml").write_text(STUDY.format(problem=f"{TINY}:untrainable"))
    with pytest.raises(RuntimeError, match="this model cannot be trained"):
        call("run", "own.toml", *INLINE, "--debug")


def test_a_model_that_cannot_be_built_is_told_before_the_first_trial(call):
    Path("own.toml").write_text(STUDY.format(problem=f"{TINY}:faulty"))
    done = call("run", "own.toml", *INLINE)
    assert done.exit_code == 2 and "RuntimeError: this model cannot be built" in done.stderr
    assert "tiny.py, line" in done.stderr and not Path("out.db").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "study.toml", "--out", "."], "is a folder; name a file in it: 'study.db'"),
        (["run", "study.toml", "--out", "study.toml/x/s.db"], "nothing can be written beside"),
        (["run", "study.toml", "--out", "study.toml"], "is not a study"),
        (["run", "study.toml", "--out", "newer.db"], "has schema 99"),
        (["run", "study.toml", "--out", "damaged.db"], "is damaged"),
        (["run", "study.toml", "--executor", "cloud"], "known: local, inline, ray, slurm"),
        (
            ["run", "study.toml", "--executor", "inline", "--time-limit", "3"],
            "is for --executor local",
        ),
        (["run", "study.toml", "--time-limit", "0"], "time_limit is 0"),
        (["run", "."], "there is no problem '.'"),
        (["report", "."], "is a folder"),
        (["report", "newer.db"], "has schema 99"),
        (["report", "damaged.db"], "is damaged"),
        (["report", "good.db", "--out", "study.toml/page.html"], "names another place"),
        (["show", "none.db"], "there is no file 'none.db'"),
        (["show", "empty.db"], "holds no study yet"),
        (["export", "good.db", "--out", "o", "--format", "xlsx"], "known: csv, json, parquet"),
        (["export", "good.db", "--out", "study.toml"], "names another place"),
        (["merge", "good.db", "empty.db", "--out", "c.db"], "not the same study"),
        (["ls", "nowhere"], "there is no folder 'nowhere'"),
        (["rm", "none.db", "--yes"], "there is no file 'none.db'"),
        (["rm", "study.toml", "--yes"], "is not a study; it is left alone"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(call, stores, arguments, message):
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("equipoise: ") and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert Path("study.toml").read_text() == STUDY.format(problem=f"{TINY}:tiny")


@pytest.fixture
def stores(finished, folder):
    """Files that are good, of a newer version, damaged, and without a study."""
    for name in ("good.db", "newer.db"):
        shutil.copy(finished, name)
    Store("empty.db").close()
    with Store("newer.db") as newer:
        newer.set(schema=99)
    whole = finished.read_bytes()
    Path("damaged.db").write_bytes(whole[: len(whole) // 2])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that was run to its end."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "study.toml").write_text(STUDY.format(problem=f"{TINY}:tiny"))
    arguments = ["run", str(folder / "study.toml"), "--executor", "inline", "--no-report", "-q"]
    out = folder / "whole.db"
    assert CliRunner().invoke(app, [*arguments, "--out", str(out)]).exit_code == 0
    return out


def content(path):
    kept = "id, record, status, note, steps, samples, forwards, backwards, initial, batch_order"
    with closing(sqlite3.connect(path)) as db:
        tables = {"trial": kept, "metric": "*", "weight": "*", "gradient": "*"}
        return {
            name: sorted(db.execute(f"SELECT {c} FROM {name}"), key=repr)
            for name, c in tables.items()
        }


def test_a_flag_says_what_it_replaces(call):
    done = call("run", "study.toml", *INLINE, "--learning-rates", "0.01,0.02", "--seeds", "3")
    assert (
        "--learning-rates replaces learning_rates = [0.01, 0.03] of study.toml\n"
        '--learning-rates replaces search = {"temperature": [1.0, 2.0]}, learning_rates = [0.02] of uw_so\n'
    ) in done.stderr
    assert "--seeds replaces" not in done.stderr, "three seeds were asked for, and three there were"
    done = call("run", "study.toml", *INLINE, "--methods", "uw", "--seeds", "1")
    assert '--methods replaces methods = ["uw_so"] of study.toml' in done.stderr
    assert "--seeds replaces seeds = [0, 1, 2] of study.toml" in done.stderr


def test_a_store_is_listed_shown_exported_and_removed(call, stores):
    listed = call("ls", ".")
    assert "good.db" in listed.stdout and "litmus" in listed.stdout
    assert "'damaged.db' is damaged" in listed.stderr
    shown = call("show", "good.db").stdout
    assert "learning_rates = [0.01, 0.03]" in shown and "uw_so" in shown
    done = call("export", "good.db", "--out", "tables")
    assert done.stdout.split() == [
        f"tables/{name}"
        for name in ("study.json", "trial.csv", "metric.csv", "weight.csv", "gradient.csv")
    ]
    joined = call("merge", "good.db", "good.db", "--out", "both.db")
    assert "35 were in both with the same numbers" in joined.stdout
    assert content("both.db") == content("good.db")
    assert call("rm", "good.db", input="n\n").stdout.endswith("Nothing was removed.\n")
    assert Path("good.db").exists()
    assert "Removed good.db" in call("rm", "good.db", input="y\n").stdout
    assert not Path("good.db").exists()


LIMITED = """
import resource, sys
from pathlib import Path
from equipoise.study import store
add = store.Store.add
def limited(self, *given):
    if len(self.trials()) == 7:
        size = Path(str(self.path) + "-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    add(self, *given)
store.Store.add = limited
from equipoise_command import main
main()
"""


@unix
def test_on_a_full_disk_what_had_finished_is_kept_and_the_same_command_goes_on(folder, finished):
    command = ["run", "study.toml", *INLINE, "-q"]
    full = subprocess.run([sys.executable, "-c", LIMITED, *command], capture_output=True, text=True)
    assert full.returncode == 2 and "Traceback" not in full.stderr
    assert "make room and give the same command again" in full.stderr
    with Store("out.db", read_only=True) as store:
        assert len(store.trials()) == 7
    assert CliRunner().invoke(app, command).exit_code == 0
    assert content("out.db") == content(finished)


# Says when a module is about to be loaded, and takes its time.
SLOW = """
import importlib.abc, sys, time
slow = sys.argv[1]
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == slow:
            print("loading", file=sys.stderr, flush=True)
            time.sleep(30)
sys.meta_path.insert(0, Slow())
from equipoise_command import main
sys.argv = ["equipoise", *sys.argv[2:]]
main()
"""


def interrupted(command, sign):
    """Starts a command, and presses Ctrl-C once it has said ``sign``; exit code and the rest."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests themselves run in the background, a shell had Ctrl-C ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    said = ""
    while sign not in said:
        line = process.stderr.readline()
        assert line, f"it ended without saying {sign!r}: {said}"
        said += line
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process
    _, rest = process.communicate(timeout=60)
    return process.returncode, said + rest


@unix
@pytest.mark.parametrize("module", ["torch", "rich", "scipy", "equipoise.cli.stores"])
def test_ctrl_c_while_the_libraries_load_is_told(folder, module):
    command = [sys.executable, "-c", SLOW, module, "run", "study.toml", *INLINE]
    code, said = interrupted(command, "loading")
    assert code == 130 and "Traceback" not in said
    assert "Stopped before anything had begun." in said


@unix
@pytest.mark.parametrize("sign", ["tuning: ", "final: "])
def test_ctrl_c_later_is_told_and_the_same_command_goes_on(folder, finished, sign):
    command = ["run", "study.toml", "--out", "out.db", "--no-report", "--workers", "2"]
    code, said = interrupted([*COMMAND, *command], sign)
    assert code == 130 and "Traceback" not in said and "KeyboardInterrupt" not in said
    assert "Stopped. What had finished is in out.db" in said
    assert subprocess.run([*COMMAND, *command, "-q"], capture_output=True).returncode == 0
    assert content("out.db") == content(finished)


@unix
def test_ctrl_c_while_the_report_is_written_is_told(folder, finished):
    shutil.copy(finished, "out.db")
    command = [
        sys.executable,
        "-c",
        SLOW,
        "equipoise.report",
        "run",
        "study.toml",
        "--out",
        "out.db",
    ]
    code, said = interrupted(command, "loading")
    assert code == 130 and "Traceback" not in said
    assert "'equipoise report out.db' writes the report" in said


def test_watch_shows_arms_and_seeds_and_ends_with_the_study(call, stores):
    once = call("watch", "good.db", "--once").stdout
    assert "35/35 trials, 0 failed; finished" in once
    row = next(line for line in once.splitlines() if line.startswith("uw_so"))
    assert row.split()[1] == "2/2" and row.split()[-3:] == ["done", "done", "done"]
    # Nobody writes to it: the live table ends by itself.
    assert "35/35 trials" in call("watch", "good.db").stdout


def test_watch_sees_a_study_that_is_being_run(call, stores):
    with closing(sqlite3.connect("good.db")) as db, db:
        for table in ("metric", "weight", "gradient"):
            db.execute(f"DELETE FROM {table} WHERE trial IN (SELECT id FROM trial WHERE seed = 1)")
        db.execute("DELETE FROM trial WHERE seed = 1")
    with only_driver(Path("good.db")):
        told = call("watch", "good.db", "--once").stdout
    assert "28/35 trials, 0 failed; about" in told and "left" in told
    row = next(line for line in told.splitlines() if line.startswith("ew"))
    assert row.split()[-3:] == ["done", ".", "done"]
    assert "no run writes to it" in call("watch", "good.db", "--once").stdout
