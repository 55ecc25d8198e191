"""Mistakes in a problem are told in one sentence that names the culprit, and never as a traceback."""

import mistakes
import pytest
from typer.testing import CliRunner

from equipoise.cli.commands import app

TOML = """
problem = "{file}:mistaken"
problem_options = {{ kind = "{kind}" }}
methods = []
learning_rates = [0.01]
seeds = 1
epochs = 1
batch_size = 16
"""


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(command, kind):
        text = TOML.format(file=mistakes.HERE, kind=kind)
        (tmp_path / "study.toml").write_text(text, encoding="utf-8")
        words = [command, "study.toml"]
        if command == "run":
            words += ["--executor", "inline", "--no-report", "--quiet", "--out", "out.db"]
        # An error that goes through the command would be raised here.
        return CliRunner().invoke(app, words, catch_exceptions=False)

    return run


@pytest.mark.parametrize("kind", mistakes.AT_ONCE)
def test_a_mistake_is_told_before_anything_is_written(kind, call, tmp_path):
    done = call("run", kind)
    first = done.stderr.splitlines()[0]
    assert done.exit_code == 2 and first.startswith("equipoise: ")
    assert mistakes.AT_ONCE[kind].told in first and "Traceback" not in done.output
    assert not (tmp_path / "out.db").exists()


@pytest.mark.parametrize("kind", mistakes.BY_TRIALS)
def test_a_mistake_that_ends_every_trial_is_the_last_thing_said(kind, call):
    done = call("run", kind)
    last = done.stderr.splitlines()[-1]
    assert done.exit_code == 1 and mistakes.BY_TRIALS[kind].told in last
    assert "Traceback" not in done.output


def test_a_check_names_it_for_every_arm_that_has_it(call):
    done = call("check", "a metric that raises")
    failed = [line for line in done.stdout.splitlines() if "FAILED" in line]
    assert done.exit_code == 1 and len(failed) >= 4
    assert all("metric 'm' of task 'b' gave no number" in line for line in failed)
    assert "single-task a" in done.stdout and "single-task a" not in "".join(failed)


def test_the_line_of_the_users_own_code_stays_below_the_sentence(call):
    told = call("run", "no single-task network").stderr
    assert "mistakes.py, line" in told and "KeyError: 'c'" in told
