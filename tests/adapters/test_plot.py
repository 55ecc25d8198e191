"""``equipoise plot`` draws a JSONL log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from two_tasks import TASKS, batches, losses_of, net
from typer.testing import CliRunner

from equipoise import Balancer, Monitor
from equipoise.adapters.loggers import JSONL
from equipoise.cli.commands import app

pytest.importorskip("altair")
pytest.importorskip("vl_convert")
from equipoise.report.logged import DASHES, POINTS, plot, read, spec


@pytest.fixture
def log(tmp_path: Path) -> Path:
    model, balancer = net(), Balancer("cagrad", TASKS)
    monitor = Monitor(balancer, every=2)
    path = tmp_path / "log.jsonl"
    with JSONL(path) as to:
        for step, batch in enumerate(batches()):
            losses = losses_of(model(batch["x"]), batch)
            monitor(losses)
            balancer(losses).backward()
            to(balancer.metrics() | monitor.metrics(), step)
    return path


def test_the_command_writes_a_page_with_every_panel(log: Path) -> None:
    done = CliRunner().invoke(app, ["plot", str(log)])
    assert done.exit_code == 0, done.output
    page = log.with_suffix(".html")
    assert done.output.strip() == str(page)
    text = page.read_text()
    for part in ("Weights applied", "Losses, unweighted", "Cosines between", "<svg", *TASKS):
        assert part in text
    assert "http" not in text.replace("http://www.w3.org", "")  # it asks for nothing
    assert len(text) < 200_000


def test_what_is_drawn_is_what_was_applied(log: Path) -> None:
    series = read(log)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    for task in TASKS:
        assert list(series["weight"][task].values()) == [
            row[f"balance/weight/{task}"] for row in rows
        ]
    assert set(series) == {"weight", "loss", "grad_norm", "conflict"}
    assert set(series["conflict"]) == {"mean cosine"}  # two tasks have one cosine
    assert series["conflict"]["mean cosine"][5] == rows[5]["balance/cos_mean"]


def test_a_picture_alone(log: Path, tmp_path: Path) -> None:
    text = plot(log, tmp_path / "pictures" / "run.svg").read_text()
    assert text.startswith("<svg")
    with pytest.raises(ValueError, match=r"neither \.html nor \.svg"):
        plot(log, tmp_path / "run.png")


def test_a_log_that_was_continued_has_the_later_numbers(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with JSONL(path) as to:
        for step, weight in [(0, 1.0), (1, 2.0), (1, 3.0)]:
            to({"train/balance/weight/a/b": weight}, step)
    path.write_text(path.read_text() + '{"step": 2, "balan')
    assert read(path) == {"weight": {"a/b": {0: 1.0, 1: 3.0}}}


def test_long_logs_are_drawn_as_means(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with JSONL(path) as to:
        for step in range(3 * POINTS):
            to({"balance/loss/a": float(step % 3)}, step)
    (values,) = spec(read(path))["datasets"].values()
    assert len(values) == POINTS
    assert {row["value"] for row in values} == {1.0}
    assert "mean of up to 3" in plot(path).read_text()


def test_more_tasks_than_colours_differ_by_their_dashes(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with JSONL(path) as to:
        to({f"balance/weight/t{number}": 1.0 for number in range(20)}, 0)
    (chart,) = spec(read(path))["vconcat"]
    color, dash = (chart["encoding"][each]["scale"]["range"] for each in ("color", "strokeDash"))
    assert len({(one, str(other)) for one, other in zip(color, dash, strict=True)}) == 20
    assert dash[8] == DASHES[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no json\n{}\n", "line 1: this is not JSON"),
        ('{"loss": 1}\n', 'line 1: expected an object with a "step"'),
        ('{"step": 0, "accuracy": 1.0}\n', "has no metrics of a balancer"),
    ],
)
def test_a_log_that_says_nothing_is_told_in_a_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    done = CliRunner().invoke(app, ["plot", str(path)])
    assert done.exit_code == 2
    assert said in done.output
    assert CliRunner().invoke(app, ["plot", str(tmp_path / "none.jsonl")]).exit_code == 2
