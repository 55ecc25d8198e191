import gzip
import os
from pathlib import Path
from runpy import run_path

import pytest
import torch

from equipoise.problems import DataError, data_sets, presets, problem
from equipoise.problems.tables import census_rows
from equipoise.problems.tables.census_income import census_income

FIXTURE = run_path(str(Path(__file__).parents[1] / "fixtures" / "census_income.py"))
REAL = Path(os.environ.get("EQUIPOISE_DATA", "")) / "census_income_kdd"


@pytest.fixture
def small(tmp_path, monkeypatch):
    FIXTURE["write"](tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    return tmp_path / "census_income_kdd" / "census-income.test.gz"


def lines_of(file):
    return gzip.decompress(file.read_bytes()).decode().splitlines()


def rewritten(file, lines):
    file.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))


def test_the_test_file_alone_is_divided_in_the_proportions_60000_19762_20000(small):
    sizes = [len(census_income().source(s)) for s in ("train", "validation", "test")]
    assert sizes == [241, 79, 80]


def test_in_the_order_of_rows_labels_are_those_of_the_file(small):
    lines = lines_of(small)
    found = census_income(order="rows")
    split = [found.source(s).targets for s in ("train", "validation", "test")]
    income = torch.cat([each["income"] for each in split]).squeeze(1).tolist()
    married = torch.cat([each["never_married"] for each in split]).squeeze(1).tolist()
    assert income == [float(line.endswith("50000+.")) for line in lines]
    assert married == [float(line.split(", ")[7] == "Never married") for line in lines]


def test_with_the_official_training_file_the_test_file_is_halved(tmp_path, monkeypatch):
    FIXTURE["write_official"](tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    sizes = [len(census_income().source(s)) for s in ("train", "validation", "test")]
    assert sizes == [300, 100, 100]


@pytest.mark.parametrize("pair", ["income", "education"])
@pytest.mark.parametrize("column", [4, 7, 24, 41])
def test_no_label_and_no_weight_of_the_sample_is_an_input(small, pair, column):
    if pair == "income" and column == 4:
        pytest.skip("education is an input where it is no label")
    before = census_income(pair=pair).source("train").inputs
    lines = [line.split(", ") for line in lines_of(small)]
    other = {4: "Children", 7: "Divorced", 24: "1.0", 41: "- 50000."}[column]
    # Another row still has another answer, or the split would be of one class.
    rewritten(small, [", ".join([*c[:column], other, *c[column + 1 :]]) for c in lines])
    after = census_income(pair=pair).source("train").inputs
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_without_telling_columns_three_inputs_are_fewer(small):
    with_them = census_income().source("train").inputs[1].shape[1]
    assert census_income(telling=False).source("train").inputs[1].shape[1] == with_them - 3


def test_numbers_are_standardised_by_the_rows_of_training(small):
    numbers, codes = census_income().source("train").inputs
    assert numbers.mean(0).abs().max() < 1e-5
    varies = numbers.std(0) > 0
    assert varies.sum() >= 5
    assert torch.allclose(numbers.std(0, correction=0)[varies], torch.ones(int(varies.sum())))
    assert codes.min() >= 1


def test_a_value_that_training_does_not_have_is_code_zero(small):
    lines = [line.split(", ") for line in lines_of(small)]
    lines[-1][34] = "Atlantis"
    rewritten(small, [", ".join(cells) for cells in lines])
    assert census_income(order="rows").source("test").inputs[1][-1].min() == 0


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        (41, "50000", r"line 8: income_50k is '50000'"),
        (7, "Engaged", r"line 8: marital_stat is 'Engaged'"),
        (4, "Kindergarten", r"line 8: education is"),
        (0, "-3", r"line 8: age is '-3' and should be 0 to 120"),
        (39, "53", r"line 8: weeks_worked is '53' and should be 0 to 52"),
        (1, "a, b", r"line 8: 43 cells and not 42"),
    ],
)
def test_a_cell_that_cannot_be_right_is_told_with_file_and_line(small, column, value, told):
    lines = [line.split(", ") for line in lines_of(small)]
    lines[7][column] = value
    rewritten(small, [", ".join(cells) for cells in lines])
    with pytest.raises(DataError, match=rf"census-income\.test\.gz: {told}"):
        for split in ("train", "validation", "test"):
            census_income(order="rows").source(split)


def test_an_empty_line_is_no_row_and_still_counts_as_a_line(small):
    lines = [line.split(", ") for line in lines_of(small)]
    lines[7][7] = "Engaged"
    rewritten(
        small, ["", *(", ".join(cells) for cells in lines[:4]), " ", *map(", ".join, lines[4:])]
    )
    with pytest.raises(DataError, match="line 10: marital_stat is 'Engaged'"):
        census_income(order="rows").source("train")
    rewritten(small, ["", *map(", ".join, lines[8:])])
    assert len(census_income(order="rows").source("train")) == round(392 * 60_000 / 99_762)


def test_a_file_cut_short_is_told(small):
    small.write_bytes(small.read_bytes()[:-40])
    with pytest.raises(DataError, match="cannot be read"):
        census_income().source("train")


def test_unknown_options_are_refused(small):
    for options in ({"pair": "age"}, {"order": "random"}, {"rows": 0}):
        with pytest.raises(ValueError, match=r"known|give a whole number, 30 or more"):
            census_income(**options)


def test_rows_keeps_a_third_as_many_for_validation_and_test(small):
    sizes = [len(census_income(rows=60).source(s)) for s in ("train", "validation", "test")]
    assert sizes == [60, 20, 20]


def test_a_network_of_each_pair_trains_one_step(small):
    for pair in ("income", "education"):
        made = census_income(pair=pair, width=8)
        model = made.network([task.name for task in made.tasks])
        batch = next(iter(made.source("train").batches(32, 0)))
        losses = made.losses_of(model, batch)
        sum(losses.values()).backward()
        assert set(losses) == {task.name for task in made.tasks}
        assert all(p.grad is not None for p in model.parameters())


def test_the_presets_name_options_that_the_problem_takes(small):
    for preset in presets("census_income").values():
        problem("census_income", **{**preset.get("problem_options", {}), "rows": 30})


def test_columns_are_those_that_the_repository_documents():
    assert len(census_rows.COLUMNS) == len(set(census_rows.COLUMNS)) == 42


@pytest.mark.skipif(not REAL.is_dir(), reason="Census-Income is not there")
def test_the_real_file_has_the_rates_that_are_documented():
    made = problem("census_income", order="rows", rows=3000)
    targets = made.source("train").targets
    assert float(targets["income"].mean()) == pytest.approx(0.062, abs=0.012)
    assert float(targets["never_married"].mean()) == pytest.approx(0.432, abs=0.03)
    assert data_sets("census_income")[0].file("census-income.test").is_file()


@pytest.mark.skipif(not REAL.is_dir(), reason="Census-Income is not there")
def test_both_pairs_correlate_as_the_paper_prints():
    for pair, first, printed in (("income", "income", 0.1768), ("education", "college", 0.2373)):
        found = problem("census_income", pair=pair)
        both = [found.source(split).targets for split in ("train", "validation", "test")]
        rows = torch.cat([torch.cat([each[first], each["never_married"]], 1) for each in both])
        assert abs(float(torch.corrcoef(rows.T)[0, 1])) == pytest.approx(printed, abs=0.003)
