"""What tuning chose is told of every seed, in tables and for machines."""

import fakes
import pytest

from equipoise.cli.result import summary
from equipoise.report.chosen import by_seeds, chosen, setting
from equipoise.report.tables import results

METHODS = ["gls", {"id": "cagrad", "search": {"c": [0.2, 0.5]}, "label": "cagrad"}]


def scores(trial):
    """Seeds 0 to 2 do best at a rate of 0.01, the others at 0.003; a decay of 0.1 and c = 0.5 are best."""
    best = 0.01 if trial.seed < 3 else 0.003
    level = 1.0 if trial.learning_rate == best else 1.2
    level += 0.0 if trial.weight_decay == 0.1 else 0.1
    level += 0.05 if trial.method == "cagrad" and trial.options()["c"] != 0.5 else 0.0
    return (level, 2 * level, 5 / level)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return fakes.study(
        tmp_path_factory.mktemp("chosen"),
        scores,
        methods=METHODS,
        tuning="per seed",
        learning_rates=[0.001, 0.003, 0.01],
        weight_decays=[0.0, 0.1, 0.2],
        allow_unequal_budgets=True,
    )


def cell(table, row, column):
    own = next(each for each in table.rows if each[0].text == row)
    return own[table.columns.index(column)].text


def test_a_table_tells_of_every_value_how_many_seeds_chose_it(found):
    table = results(found)
    assert cell(table, "gls", "learning rate") == "0.01 (3 seeds), 0.003 (2)"
    assert cell(table, "gls", "weight decay") == "0.1"
    assert cell(table, "cagrad", "options") == "c 0.5"
    assert cell(table, "single-task", "learning rate") == "0.01 (3 seeds), 0.003 (2)"
    assert setting(found.arm("cagrad")) == (
        "0.01, decay 0.1, c 0.5 (3 seeds); 0.003, decay 0.1, c 0.5 (2)"
    )


def test_every_setting_has_a_row_with_its_seeds(found):
    rows = [[c.text for c in row] for row in chosen(found).rows if row[0].text == "cagrad"]
    assert [row[1:5] for row in rows] == [
        ["0, 1, 2", "0.01", "0.1", "c 0.5"],
        ["3, 4", "0.003", "0.1", "c 0.5"],
    ]


def test_machines_get_every_setting_of_arms_and_single_tasks(found):
    told = summary(found)
    own = next(each for each in told["arms"] if each["arm"] == "cagrad")
    assert (own["learning_rate"], own["weight_decay"], own["options"]) == (0.01, 0.1, {"c": 0.5})
    assert [(each["learning_rate"], each["seeds"]) for each in own["chosen"]] == [
        (0.01, [0, 1, 2]),
        (0.003, [3, 4]),
    ]
    assert all(each["weight_decay"] == 0.1 for each in told["single_task"])
    assert [each["metric"] for each in told["single_task"][0]["metrics"]] == ["rmse", "mae"]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "–"),
        (["0.01"] * 5, "0.01"),
        (["0.1", "0.2"], "0.1 (1 seed), 0.2 (1)"),
        (["0.4", "0.1", "0.03", "0.2"], "0.03 to 0.4 (4 different ones)"),
        (["c 1", "c 2", "c 3", "c 4"], "4 different ones"),
    ],
)
def test_many_values_are_cut_to_their_ends(values, text):
    assert by_seeds(values) == text
