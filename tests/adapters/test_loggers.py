"""Metrics arrive where they are logged to. Trackers that are not installed are played by a stand-in."""

from __future__ import annotations

import csv
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from two_tasks import TASKS, batches, losses_of, net

from equipoise import Balancer
from equipoise.adapters import loggers
from equipoise.nn.needs import MissingLibraryError

METRICS = {"balance/weight/one": 0.25, "balance/loss/one": 2.0}


def test_jsonl_is_a_strict_json_object_a_line_and_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "log.jsonl"
    with loggers.JSONL(path) as log:
        log(METRICS, 0)
        log({"a": float("nan"), "b": torch.tensor(2.0)}, 1)  # type: ignore[dict-item]
    with loggers.JSONL(path) as log:
        log(METRICS, 2)

    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is not JSON")

    lines = [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]
    assert lines == [
        {"step": 0, **METRICS},
        {"step": 1, "a": None, "b": 2.0},
        {"step": 2, **METRICS},
    ]


def test_csv_keeps_one_header_and_metrics_may_come_later(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with loggers.CSV(path) as log:
        log({"a": 1.0}, 0)
        log({"a": 2.0, "b": 3.5}, 1)
    with loggers.CSV(path) as log:
        log({"a": 4.0}, 2)
    with path.open() as file:
        got = [(row["step"], row["metric"], float(row["value"])) for row in csv.DictReader(file)]
    assert got == [("0", "a", 1.0), ("1", "a", 2.0), ("1", "b", 3.5), ("2", "a", 4.0)]


def test_tensorboard_has_the_scalars(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    events = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    with loggers.TensorBoard(tmp_path) as log:
        log(METRICS, 0)
        log(METRICS, 5)
    read = events.EventAccumulator(str(tmp_path))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("balance/weight/one")] == [(0, 0.25), (5, 0.25)]


class Run:
    """What a tracker was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.active = False

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.told.append((metrics, step))

    log_metrics = log

    def finish(self) -> None:
        self.told.append("finished")

    end_run = finish

    def init(self, **options: Any) -> Run:
        self.told.append(options)
        return self

    start_run = init

    def active_run(self) -> Any:
        return self if self.active else None


@pytest.fixture
def tracker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    run = Run()
    module = ModuleType(request.param)
    for name in ("init", "log", "finish", "log_metrics", "start_run", "end_run", "active_run"):
        setattr(module, name, getattr(run, name))
    monkeypatch.setitem(sys.modules, request.param, module)
    return run


@pytest.mark.parametrize(
    ("tracker", "make"),
    [
        ("wandb", lambda: loggers.WandB(project="mine")),
        ("mlflow", lambda: loggers.MLflow(project="mine")),
        ("trackio", lambda: loggers.Trackio("mine")),
    ],
    indirect=["tracker"],
    ids=["wandb", "mlflow", "trackio"],
)
def test_a_tracker_is_begun_told_and_finished(tracker: Run, make: Any) -> None:
    with make() as log:
        log(METRICS, 3)
    assert tracker.told == [{"project": "mine"}, (METRICS, 3), "finished"]


@pytest.mark.parametrize("tracker", ["mlflow"], indirect=True)
def test_a_run_of_yours_stays_open(tracker: Run) -> None:
    tracker.active = True
    with loggers.MLflow() as log:
        log({"cos/a&b": 1.0}, 0)
    with loggers.WandB(tracker) as log:
        log(METRICS, 1)
    assert tracker.told == [({"cos/a_b": 1.0}, 0), (METRICS, 1)]
    with pytest.raises(ValueError, match="project: options of a new run"):
        loggers.WandB(tracker, project="mine")


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_tracker_that_is_not_installed_is_named(name: str, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    make = {"wandb": loggers.WandB, "mlflow": loggers.MLflow, "trackio": loggers.Trackio}[name]
    with pytest.raises(MissingLibraryError, match=f"pip install {name}"):
        make("mine") if name == "trackio" else make()


def test_what_a_logger_gets_is_what_was_applied(tmp_path: Path) -> None:
    model, balancer = net(), Balancer("cagrad", TASKS)
    with loggers.JSONL(tmp_path / "log.jsonl") as log:
        for step, batch in enumerate(batches()):
            balancer(losses_of(model(batch["x"]), batch)).backward()
            log(balancer.metrics(), step)
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 5
    assert last["balance/weight/two"] == balancer.weights["two"]


@pytest.mark.parametrize(
    ("module", "name", "missing", "extra"),
    [
        (
            "lightning",
            "BalancerCallback",
            ("lightning.pytorch", "lightning", "pytorch_lightning"),
            "lightning",
        ),
        ("transformers", "BalancedTrainer", ("transformers",), "trainer"),
        ("transformers", "BalancedTrainer", ("accelerate",), "trainer"),
    ],
)
def test_a_missing_trainer_names_its_extra(
    module: str, name: str, missing: tuple[str, ...], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = importlib.import_module(f"equipoise.adapters.{module}")
    monkeypatch.delitem(vars(adapter), name, raising=False)
    for each in missing:
        monkeypatch.setitem(sys.modules, each, None)
    with pytest.raises(MissingLibraryError, match=rf"equipoise\[{extra}\]"):
        getattr(adapter, name)
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        adapter.Other  # noqa: B018


def test_all_adapters_are_imported_with_torch_alone() -> None:
    script = (
        "import sys\n"
        "for name in ('numpy', 'lightning', 'pytorch_lightning', 'transformers', 'accelerate',\n"
        "             'tensorboard', 'wandb', 'mlflow', 'trackio', 'pydantic', 'altair'):\n"
        "    sys.modules[name] = None\n"
        "from equipoise.adapters import accelerate, lightning, loggers, task_data, transformers\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_older_package_of_lightning_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = importlib.import_module("equipoise.adapters.lightning")
    older = ModuleType("pytorch_lightning")
    older.Callback = type("Callback", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pytorch_lightning", older)
    monkeypatch.delitem(sys.modules, "lightning.pytorch", raising=False)
    monkeypatch.delitem(vars(adapter), "BalancerCallback", raising=False)
    assert issubclass(adapter.BalancerCallback, older.Callback)
    monkeypatch.setitem(sys.modules, "lightning", None)
    assert adapter._base() is older.Callback
    del vars(adapter)["BalancerCallback"]
