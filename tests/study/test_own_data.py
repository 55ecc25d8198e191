"""Problems outside the package, on real data, as a user would write them: from TOML and from Python alike."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from equipoise.cli.commands import app
from equipoise.problems import problem
from equipoise.problems.catalogue import loaded
from equipoise.study import Store, Trial, compare
from equipoise.study.executors import Inline
from equipoise.study.train import run
from equipoise.study.trial import with_options

FOLDER = Path(__file__).parents[2] / "examples" / "own_data"
DATA = Path(os.environ.get("EQUIPOISE_DATA", "not set"))


@dataclass(frozen=True)
class Example:
    """One of the examples, cut down to seconds; ``enough`` rows are for learning something in five epochs."""

    name: str
    options: dict[str, Any]
    needs: str
    rate: float
    batch: int
    enough: int

    @property
    def function(self) -> str:
        return f"{FOLDER / self.name}.py:{self.name}"

    def toml(self) -> str:
        options = ", ".join(f"{key} = {value!r}" for key, value in self.options.items())
        return (
            f'problem = "{self.name}.py:{self.name}"\nproblem_options = {{ {options} }}\n'
            f'methods = ["uw", "pcgrad"]\nlearning_rates = [{self.rate}]\nseeds = 3\nepochs = 1\n'
            f"batch_size = {self.batch}\n"
        )


EXAMPLES = (
    Example("census", {"rows": 1500}, "census_income_kdd/census-income.test.gz", 0.01, 64, 3000),
    Example("tox21", {"rows": 1000, "assays": 3}, "molnet/tox21.csv.gz", 0.003, 64, 6000),
    Example("udpos", {"rows": 100}, "udpos/en-train.tsv.gz", 0.03, 16, 200),
)
CASES = [
    pytest.param(
        each,
        id=each.name,
        marks=pytest.mark.skipif(
            not (DATA / each.needs).is_file(), reason="EQUIPOISE_DATA holds no such data"
        ),
    )
    for each in EXAMPLES
]


def measured(path: Path) -> dict[tuple[Any, ...], float]:
    """Every number of a study, by what ran and where it was measured."""
    with Store(path, read_only=True) as store:
        ran = {name: stored.trial for name, stored in store.trials().items()}
        _, rows = store.table("metric")
    return {
        (ran[t].seed, ran[t].method, ran[t].task, ran[t].method_options, *where): value
        for t, *where, value in rows
    }


@pytest.mark.parametrize("example", CASES)
def test_a_study_from_toml_and_one_from_python_give_the_same_numbers(
    example, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    beside = tmp_path / f"{example.name}.toml"
    beside.write_text(example.toml().replace(f"{example.name}.py", f"{FOLDER / example.name}.py"))
    words = ["run", str(beside), "--executor", "inline", "--no-report", "--quiet"]
    done = CliRunner().invoke(app, [*words, "--out", "toml.db"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    study = compare(
        loaded(example.function, "problem"),
        ["uw", "pcgrad"],
        problem_options=example.options,
        learning_rates=[example.rate],
        seeds=3,
        epochs=1,
        batch_size=example.batch,
        executor=Inline(),
        out="python.db",
    )
    assert str(study) and str(study) in done.output
    first, second = measured(Path("toml.db")), measured(Path("python.db"))
    assert len(first) > 40 and first == second


@pytest.mark.parametrize("example", CASES)
def test_every_task_is_learned_better_than_by_a_constant(example):
    options = {**example.options, "rows": example.enough}
    trial = Trial(
        problem=example.function,
        problem_options=with_options(options),
        method="ew",
        stage="final",
        seed=0,
        learning_rate=example.rate,
        epochs=5,
        batch_size=example.batch,
    )
    result = run(trial)
    assert result.status == "done", result.note
    built = problem(example.function, **options)
    for task in built.tasks:
        metric = task.metrics[0].name
        got = [
            row.value
            for row in result.metrics
            if (row.split, row.task, row.metric) == ("test", task.name, metric)
        ]
        assert got[0] > constant(built, task) + 0.02 * (100 if metric == "accuracy" else 1), task


def constant(built: Any, task: Any) -> float:
    """The score of a predictor that knows the most frequent label of the test, and nothing of the inputs."""
    if task.metrics[0].name == "auc":
        return 0.5
    batches = built.source("test").batches(64, None)
    tags = torch.cat([b.targets[task.name].flatten() for b in batches if task.name in b.targets])
    tags = tags[tags != -1]
    return 100 * float(tags.bincount().max()) / len(tags)


@pytest.mark.parametrize("example", [each for each in CASES if each.id == "tox21"])
def test_the_study_beside_an_example_is_checked_from_any_folder(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = FOLDER / f"{example.name}.toml"
    assert f'problem = "{example.name}.py:{example.name}"' in file.read_text(encoding="utf-8")
    done = CliRunner().invoke(app, ["check", str(file)], catch_exceptions=False)
    assert done.exit_code == 0 and "FAILED" not in done.output, done.output
    assert "cagrad" in done.output and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [each.name for each in EXAMPLES])
def test_missing_data_are_told_with_the_place_and_the_remedy(name, tmp_path):
    build = loaded(f"{FOLDER / name}.py:{name}", "problem")
    with pytest.raises(ValueError, match=rf"there is no {tmp_path}.*EQUIPOISE_DATA"):
        build(root=str(tmp_path)).source("train")


@pytest.mark.skipif(
    not (DATA / "mulan_mtr/oes10.arff.gz").is_file(), reason="EQUIPOISE_DATA holds no such data"
)
def test_sixteen_targets_of_a_table_are_learned_better_than_by_their_mean():
    function = f"{FOLDER / 'mulan'}.py:mulan"
    trial = Trial(
        problem=function,
        method="ew",
        stage="final",
        seed=0,
        learning_rate=0.003,
        epochs=15,
        batch_size=32,
    )
    errors = [
        row.value for row in run(trial).metrics if (row.split, row.metric) == ("test", "rrmse")
    ]
    assert len(errors) == 16 and max(errors) < 0.9
