"""The examples run, and show what they say they show."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from equipoise.study import arms
from equipoise.study import load as load_study

FOLDER = Path(__file__).parent.parent / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain_loop(method: str, steps: int, capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    load("plain_loop").main(["--method", method, "--steps", str(steps)])
    told = capsys.readouterr().out
    assert f"({method})" in told
    return {task: float(v) for task, v in re.findall(r"validation loss, (\w+): (\S+)", told)}


@pytest.mark.parametrize("method", ["uw", "pcgrad", "graddrop"])
def test_the_plain_loop_trains_with_any_kind_of_method(
    method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plain_loop(method, 101, capsys)["size"] < 500  # about 3600 before the first step


def test_in_the_plain_loop_the_largest_loss_drowns_the_others_under_equal_weights(
    capsys: pytest.CaptureFixture[str],
) -> None:
    equal, balanced = plain_loop("ew", 200, capsys), plain_loop("uw_o", 200, capsys)
    assert balanced["class"] < 0.75 * equal["class"]
    assert balanced["copy"] < 0.5 * equal["copy"]


def test_the_features_route_passes_the_trunk_once_and_the_other_once_a_task(
    capsys: pytest.CaptureFixture[str],
) -> None:
    load("features_route").main(["--steps", "5"])
    told = capsys.readouterr().out
    assert "parameters route: 3 backward" in told
    assert "features route: 1 backward" in told


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_with_accumulation_lowers_the_losses(
    dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    load("amp_accumulation").main(["--dtype", dtype, "--steps", "41"])
    losses = re.findall(r"losses: class (\S+), copy (\S+) ", capsys.readouterr().out)
    (first_class, first_copy), (last_class, last_copy) = losses[0], losses[-1]
    assert float(last_class) < float(first_class) and float(last_copy) < float(first_copy)


def test_the_toy_losses_are_those_of_the_paper() -> None:
    """By hand: at (7, -8) the first loss is 0.1 * tanh(4) * -20; at (-8.5, 7.5) both are logarithms."""
    toy = load("two_dimensional_toy")
    got = toy.losses(torch.tensor([[7.0, -8.0], [-8.5, 7.5]], dtype=torch.float64))
    assert got[0].tolist() == pytest.approx([-1.998658599, -0.399731720], rel=1e-8)
    assert got[1].tolist() == pytest.approx([0.655236341, 7.900798143], rel=1e-8)


def test_the_toy_front_runs_between_the_two_minima() -> None:
    toy = load("two_dimensional_toy")
    front = toy.pareto_front(21)
    assert front[:, 1].tolist() == pytest.approx([-8.36] * 21, abs=0.1)
    ends = sorted(front[[0, -1], 0].tolist())
    assert ends == pytest.approx([-7.0, 7.0], abs=1e-3)


def test_the_toy_runs_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "toy.svg"
    toy = load("two_dimensional_toy")
    toy.main(["--steps", "40", "--methods", "ew,cagrad,famo", "--out", str(out)])
    told = capsys.readouterr().out
    assert {line.split()[0] for line in told.splitlines()[1:4]} == {"ew", "cagrad", "famo"}
    drawn = out.read_text(encoding="utf-8")
    assert drawn.count("on the front<") == 3 and "CAGrad" in drawn


@pytest.mark.parametrize("path", sorted((FOLDER / "studies").glob("*.toml")), ids=lambda p: p.stem)
def test_the_studies_of_the_protocols_can_be_planned(path: Path) -> None:
    spec = load_study(path)
    assert spec.protocol.startswith(path.stem)
    first = dict.fromkeys(spec.problem_options.get("tasks", ["a", "b", "c"]), 1.0)
    assert len(arms(spec, first)) > 5
