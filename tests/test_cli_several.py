"""Several problems with one command."""

from pathlib import Path
from runpy import run_path

import pytest
from typer.testing import CliRunner

from equipoise.cli.commands import app

FIXTURES = Path(__file__).parent / "problems" / "fixtures"

FEW = ["--quick", "--methods", "uw", "--epochs", "1", "--seeds", "3", "--executor", "inline"]


@pytest.fixture
def said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path / "data"))

    def run(*arguments):
        return CliRunner().invoke(app, ["run", *arguments, *FEW])

    return run


def test_what_the_last_problem_lacks_is_told_before_the_first_has_run(said, tmp_path):
    result = said("digits", "multimnist", "--no-report")
    assert result.exit_code == 2
    assert "mnist: there is no such folder" in result.output
    assert not list(tmp_path.rglob("*.db"))


def test_several_problems_run_in_turn_and_are_told_together(said, tmp_path):
    run_path(str(FIXTURES / "fashion_mnist_mix.py"))["write"](tmp_path / "data")
    small = ["--option", "rows=64", "--no-report", "--json"]
    result = said("multimnist", "multifashion", *small)
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "runs").glob("*.db")} == {
        "multimnist-quick.db",
        "multifashion-quick.db",
    }
    assert '"problems"' in result.output
