"""The benchmark of a step measures what it says, and its page shows what it measured."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import engines
import memory
import steps
from workloads import build

ROOT = Path(__file__).parents[1]
OURS = ["plain", *engines.OURS]
SHORT = ["--workloads", "tiny_mlp", "--rounds", "1", "--block", "0.001", "--engines", *OURS]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("speed") / "speed.json"
    steps.main([*SHORT, "--methods", "ew", "mgda", "--json", str(file)])
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def _speed() -> ModuleType:
    """The Sphinx extension that holds the tables; importing it needs Sphinx."""
    pytest.importorskip("sphinx")
    file = ROOT / "docs" / "_ext" / "speed.py"
    spec = importlib.util.spec_from_file_location("speed_tables", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_engine_of_a_method_is_measured(measured: dict[str, Any]) -> None:
    found = [(row["method"], row["engine"]) for row in measured["rows"]]
    assert found == [
        (None, "plain"),
        ("ew", "losses"),
        *(("mgda", engine) for engine in engines.OURS if engine != "losses"),
    ]
    for row in measured["rows"]:
        assert row["workload"] == "tiny_mlp" and row["tasks"] == 2
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert row["milliseconds"] > 0 and row["mib"] > 0


def test_the_numbers_come_with_what_they_were_measured_on(measured: dict[str, Any]) -> None:
    assert measured["machine"] and measured["cores"] >= 1 and measured["threads"] >= 1
    assert measured["versions"]["torch"] == torch.__version__
    assert "--methods ew mgda" in measured["command"]
    assert set(measured["absent"]) | set(measured["versions"]) >= {"torchjd", "libmtl"}


def test_exact_routes_agree_and_a_variant_is_not_compared(measured: dict[str, Any]) -> None:
    off = {row["engine"]: row.get("difference") for row in measured["rows"]}
    assert max(off[name] for name in ("backward", "shared", "shared_backward")) < 1e-4
    assert off["features"] is None and off["losses"] is None


def test_exact_routes_keep_more_than_the_plain_sum(measured: dict[str, Any]) -> None:
    mib = {row["engine"]: row["mib"] for row in measured["rows"]}
    assert mib["parameters"] > mib["plain"] and mib["backward"] > mib["plain"]


def test_what_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = engines.stepper

    def stepper(work: Any, method: str | None, engine: str) -> engines.Step:
        return honest(work, None if engine == "backward" else method, engine)

    monkeypatch.setattr(engines, "stepper", stepper)
    found = steps.check(build("tiny_mlp", None, "cpu"), "mgda", ["backward", "parameters"])
    assert "something else" in found["backward"]["refused"]
    assert "refused" not in found["parameters"]


def test_what_an_engine_keeps_between_steps_counts() -> None:
    def build_one() -> engines.Step:
        kept = []
        return lambda: kept.append(torch.ones(2**18))

    assert memory.peak(build_one, "cpu") == pytest.approx(memory.STEPS, abs=0.01)


def test_the_page_shows_the_best_setting_of_a_library() -> None:
    speed = _speed()
    at = {"method": "mgda", "workload": "mlp", "tasks": 4, "low": 1.0, "high": 9.0, "mib": 20.0}
    rows = [
        {**at, "engine": "parameters", "ratio": 2.0, "difference": 0.0},
        {**at, "engine": "torchjd", "ratio": 4.0, "difference": 1e-3},
        {**at, "engine": "torchjd_1", "ratio": 3.0, "difference": 2e-3, "mib": 30.0},
        {**at, "engine": "libmtl", "refused": "it is absent"},
    ]
    lines = speed.lines_of(rows)
    assert [line.engine for line in lines] == ["parameters", "torchjd", "libmtl"]
    assert speed.ratio(speed.the_row(rows, lines[1], "mlp", "ratio")) == "3.00 (1.0–9.0)"
    assert speed.mib(speed.the_row(rows, lines[1], "mlp", "mib")) == "20.0"
    assert speed.mib(speed.the_row(rows, lines[2], "mlp", "mib")) == "–"
    said = "\n".join(speed.agreement(rows))
    assert "2e-03" in said and "it is absent" in said


def test_the_page_has_a_run_to_show() -> None:
    speed = _speed()
    run = speed.read(ROOT / "docs" / "speed.json")
    assert run["rows"] and run["versions"]["torch"] in speed.summary(run)
    for line in speed.lines_of(run["rows"]):
        assert line.engine in speed.ENGINES
