import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import equipoise
from equipoise.cli.commands import app
from equipoise.cli.progress import Lines, Live
from equipoise.study import Failure

TINY = Path(__file__).parent / "study" / "tiny.py"
TOML = f"""
problem = "{TINY}:tiny"
learning_rates = [0.01, 0.03, 0.1]
seeds = 3
epochs = 2
batch_size = 16
methods = ["uw"]
"""
INLINE = ["--executor", "inline", "--out", "out.db"]
SHORT = ["--learning-rates", "0.01", "--epochs", "1"]


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(TOML)

    def run(*arguments):
        return CliRunner().invoke(app, list(arguments), catch_exceptions=False)

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The store of the study of this file, run to its end."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "study.toml").write_text(TOML)
    arguments = ["run", str(folder / "study.toml"), *INLINE[:2], "--out", str(folder / "out.db")]
    CliRunner().invoke(app, [*arguments, "--no-report", "--quiet"], catch_exceptions=False)
    return folder / "out.db"


@pytest.fixture
def kept(call, finished):
    """Calls where the study has been run before."""
    shutil.copy(finished, "out.db")
    return call


def test_run_prints_the_verdict_and_writes_the_report(call):
    done = call("run", "study.toml", *INLINE)
    assert done.exit_code == 0
    assert "equal weights (ew)" in done.stdout and "Report: out.html" in done.stdout
    assert "tuning: 63 trials" in done.stderr and "tuning: 63/63" in done.stderr
    assert {path.suffix for path in Path().glob("out.*")} >= {".db", ".html", ".md", ".csv"}


def test_run_again_keeps_what_is_there(kept):
    again = kept("run", "study.toml", *INLINE, "--no-report", "--seeds", "4")
    assert "tuning: 84 trials, 63 kept" in again.stderr


def test_quiet_says_only_the_result(call):
    done = call("run", "study.toml", *INLINE, *SHORT, "--no-report", "--quiet")
    assert done.stderr == "" and "equal weights" in done.stdout


def test_json_is_one_object_with_numbers(call):
    done = call("run", "study.toml", *INLINE, *SHORT, "--no-report", "--json")
    told = json.loads(done.stdout)
    assert told["store"] == "out.db" and told["report"] is None
    pairs = {(each["arm"], each["baseline"]): each for each in told["comparisons"]}
    assert {"value", "low", "high", "p_holm", "outcome"} <= set(pairs["uw", "ew"])


def test_options_of_the_command_replace_keys_of_the_study(call):
    done = call(
        "run", "study.toml", *INLINE, "--no-report",
        *("--methods", "gls, dwa", "--learning-rates", "0.01,0.1", "--epochs", "1", "--seeds", "1"),
    )  # fmt: skip
    # 2 single tasks, 4 controls, 2 methods: 8 arms, two candidates, one seed.
    assert "tuning: 16 trials" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "digitz"], "there is no problem 'digitz'; did you mean 'digits'?"),
        (["run", "none.toml"], "there is no file 'none.toml'"),
        (["run", "study.toml", "--executor", "cloud"], "known: local, inline"),
        (["run", "study.toml", "--learning-rates", "a,b"], "takes numbers separated by commas"),
        (["run", "study.toml", "--methods", "uw_sso"], "uw_so"),
        (["run", "digits", "--methods", ""], "--methods is empty"),
        (["report", "none.db"], "there is no file 'none.db'"),
        (["methods", "uw_sso"], "uw_so"),
        (["methods", "--needs", "luck"], "none of losses, gramian, jacobian"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(call, arguments, message):
    done = call(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("equipoise: ") and message in done.stderr
    assert "Traceback" not in done.stderr


def test_report_writes_the_page_and_prints_its_path(kept):
    done = kept("report", "out.db", "--out", "page.html")
    assert done.stdout.strip() == "page.html" and Path("page.html").stat().st_size > 500_000


def test_methods_lists_every_method(call):
    listed = call("methods").stdout
    assert all(card.id in listed for card in equipoise.methods())


@pytest.mark.parametrize("needs", ["losses", "gramian", "jacobian"])
def test_methods_can_be_filtered_by_what_they_need(call, needs):
    told = json.loads(call("methods", "--needs", needs, "--json").stdout)
    assert told and {each["needs"] for each in told} == {needs}


def test_a_card_shows_paper_equation_and_deviations(call):
    shown = call("methods", "uw_so").stdout
    assert "2408.07985" in shown and "softmax" in shown and "deviations" in shown


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys):
    from equipoise.study import Trial

    trial = Trial(
        problem="p", method="ew", stage="tune", seed=0, learning_rate=0.1, epochs=1, batch_size=1
    )
    lines = Lines(sys.stderr, every=1e9)
    lines.stage("tuning", 3, 1)
    lines.finished(trial, Failure("Traceback\nRuntimeError: no luck"))
    lines.finished(trial, Failure("Traceback\nRuntimeError: no luck"))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "tuning: 3 trials, 1 kept from before"
    assert said[1:3] == ["ew, lr 0.1 failed: RuntimeError: no luck"] * 2
    assert said[3].startswith("tuning: 3/3 after") and len(said) == 4


def test_progress_over_rounds_is_one_line_of_all_of_them(capsys):
    from equipoise.study import Trial

    trial = Trial(
        problem="p", method="ew", stage="tune", seed=0, learning_rate=0.1, epochs=1, batch_size=1
    )
    lines = Lines(sys.stderr, every=1e9)
    lines.stage("tuning", 4, 1)
    lines.finished(trial, Failure("no luck"))
    lines.stage("tuning", 5, 2)
    lines.finished(trial, Failure("no luck"))
    lines.stage("tuning", 4, 2)
    said = [line for line in capsys.readouterr().err.splitlines() if "luck" not in line]
    assert said[0] == "tuning: 4 trials, 1 kept from before"
    assert said[1].startswith("tuning: 4/4 after") and len(said) == 2


def test_progress_on_a_terminal_has_one_bar_a_stage_that_never_goes_back():
    from equipoise.study import Trial

    trial = Trial(
        problem="p", method="ew", stage="tune", seed=0, learning_rate=0.1, epochs=1, batch_size=1
    )
    live = Live()
    live.stage("tuning", 8, 1)
    live.finished(trial, Failure("no luck"))
    live.stage("tuning", 9, 2)
    (bar,) = live._progress.tasks
    assert (bar.completed, bar.total) == (3, 9)


def without(*hidden):
    """A script that starts the command line where some packages are not installed."""
    return f"""
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(name, name=name)
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in {hidden!r} else real(name, *a)
sys.meta_path.insert(0, Hidden())
import equipoise
from equipoise.cli import main
sys.argv = ["equipoise", *sys.argv[1:]]
main()
"""


def test_without_the_extra_the_command_names_what_to_install():
    script = without("typer", "rich", "numpy", "pydantic", "scipy", "sklearn")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert 'pip install "equipoise[report]"' in done.stderr and "Traceback" not in done.stderr


def test_without_the_report_extra_a_study_is_refused_before_it_runs_not_after(tmp_path):
    (tmp_path / "study.toml").write_text(TOML)
    script = without("altair", "jinja2", "vl_convert")
    command = [sys.executable, "-c", script, "run", "study.toml", "--out", "o.db"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and not (tmp_path / "o.db").exists()
    assert 'pip install "equipoise[report]"' in done.stderr and "--no-report" in done.stderr
