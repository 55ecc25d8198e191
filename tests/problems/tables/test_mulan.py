import gzip
import os
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch

from equipoise.problems import DataError, presets, problem
from equipoise.problems.tables.mulan import FOLDS, TARGETS, mulan, parts

FIXTURE = run_path(str(Path(__file__).parents[1] / "fixtures" / "mulan.py"))
REAL = Path(os.environ.get("EQUIPOISE_DATA", "")) / "mulan_mtr"
SPLITS = ("train", "validation", "test")


@pytest.fixture
def small(tmp_path, monkeypatch):
    FIXTURE["write"](tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    return tmp_path / "mulan_mtr" / "sf1.arff.gz"


def test_the_last_columns_are_targets_and_dots_in_names_become_lines(small):
    assert [task.name for task in mulan(table="sf1").tasks] == ["c-class", "m-class", "x_class"]


def test_a_column_of_names_is_a_column_for_each_and_a_missing_number_is_the_mean(small):
    source = mulan(table="sf1").source("train")
    assert source.inputs.shape == (80, 3 + 2)
    assert not source.inputs.isnan().any()
    known = source.inputs[:, 3][source.inputs[:, 3] != 0]
    assert 60 < len(known) < 80
    assert known.mean().abs() < 1e-5


def test_ten_folds_test_every_row_once_and_no_row_is_in_two_splits():
    tests = np.concatenate([parts(57, fold)["test"] for fold in range(FOLDS)])
    assert sorted(tests) == list(range(57))
    for fold in range(FOLDS):
        assert sorted(np.concatenate(list(parts(57, fold).values()))) == list(range(57))


def test_targets_are_standardised_by_training_so_that_the_mean_scores_about_one(small):
    made = mulan(table="sf1")
    for task in made.tasks:
        y = made.source("train").targets[task.name]
        assert task.metrics[0].score(torch.zeros_like(y), y) == pytest.approx(1.0)
        assert y.std(correction=0) == pytest.approx(1.0, abs=1e-5)


def test_the_joint_metric_is_the_mean_of_the_relative_errors(small):
    made = mulan(table="sf1")
    targets = made.source("test").targets
    outputs = {name: 0.3 * y + 0.1 for name, y in targets.items()}
    single = [t.metrics[0].score(outputs[t.name], targets[t.name]) for t in made.tasks]
    assert made.metrics[0].score(outputs, targets) == pytest.approx(np.mean(single))


def test_a_missing_target_is_no_label(small):
    text = gzip.decompress(small.read_bytes()).decode().splitlines()
    text[-1] = text[-1].rsplit(",", 1)[0] + ",?"
    small.write_bytes(gzip.compress("\n".join(text).encode()))
    made = mulan(table="sf1")
    gone = sum(int(made.source(s).targets["x_class"].isnan().sum()) for s in SPLITS)
    assert gone == 1
    model = made.network([task.name for task in made.tasks])
    for split in SPLITS:
        batch = next(iter(made.source(split).batches(100, None)))
        assert all(bool(loss.isfinite()) for loss in made.losses_of(model, batch).values())


def test_a_damaged_row_is_told_with_file_and_line(small):
    text = gzip.decompress(small.read_bytes()).decode().splitlines()
    text[11] = "Z" + text[11][1:]
    small.write_bytes(gzip.compress("\n".join(text).encode()))
    with pytest.raises(DataError, match=r"sf1\.arff\.gz: line 12: 'kind' cannot be"):
        mulan(table="sf1")


def test_a_target_of_names_is_told(small):
    text = gzip.decompress(small.read_bytes()).decode()
    small.write_bytes(gzip.compress(text.replace("c-class numeric", "c-class {a}").encode()))
    with pytest.raises(DataError, match="line 10: 'c-class' cannot be"):
        mulan(table="sf1")
    with pytest.raises(DataError, match="line 10: 'c-class' cannot be"):
        mulan(table="sf1", targets=2)


def test_a_target_in_a_list_of_names_is_told(small):
    with pytest.raises(DataError, match=r"it has 6 attributes, and the last 6 are targets"):
        mulan(table="sf1", targets=6)
    head = "@relation r\n@attribute x real\n@attribute y {a,b}\n@attribute z real\n@data\n"
    small.write_bytes(gzip.compress((head + "1,a,2\n" * 40).encode()))
    with pytest.raises(DataError, match="target 'y' is a name and not a number"):
        mulan(table="sf1", targets=2)


def test_a_target_of_one_value_is_refused_only_where_it_is_a_task(small):
    text = gzip.decompress(small.read_bytes()).decode().splitlines()
    start = text.index("@data") + 1
    rows = [line.rsplit(",", 1)[0] + ",7" for line in text[start:]]
    small.write_bytes(gzip.compress("\n".join([*text[:start], *rows]).encode()))
    with pytest.raises(DataError, match="target 'x_class' has one value") as caught:
        mulan(table="sf1").source("train")
    assert "leave it out: tasks=c-class,m-class" in str(caught.value)
    assert "fetch" not in str(caught.value)
    for tasks in (["c-class", "m-class"], "c-class,m-class"):
        found = mulan(table="sf1", tasks=tasks).source("train")
        assert set(found.targets) == {"c-class", "m-class"}


def test_a_table_that_is_not_known_needs_its_number_of_targets(small):
    with pytest.raises(ValueError, match="how many targets has table 'mine'"):
        mulan(table="mine")
    with pytest.raises(ValueError, match="fold is 10; give a whole number, from 0 to 9"):
        mulan(table="sf1", fold=10)
    with pytest.raises(DataError, match=r"enb\.arff: there is no such file"):
        mulan(table="enb")


def test_the_presets_name_options_that_the_problem_takes(small):
    for preset in presets("mulan").values():
        problem("mulan", **{**preset.get("problem_options", {}), "table": "sf1"})


def test_eighteen_tables_are_known():
    assert len(TARGETS) == 18 and TARGETS["oes97"] == 16


@pytest.mark.skipif(not REAL.is_dir(), reason="Mulan's tables are not there")
@pytest.mark.parametrize(
    ("table", "rows", "targets"), [("oes10", 403, 16), ("enb", 768, 2), ("slump", 103, 3)]
)
def test_the_real_tables_have_their_documented_size(table, rows, targets):
    made = problem("mulan", table=table)
    assert len(made.tasks) == targets
    assert sum(len(made.source(s)) for s in SPLITS) == rows
