"""Tables: what they show beside the comparison, and how they are sorted and copied."""

from dataclasses import replace

import fakes
import numpy as np
import pytest
from browser import CHROMIUM, Browser

from equipoise.report import write
from equipoise.report.extras import at_best, differences_by_task, joint
from equipoise.report.table import Cell, Table, latex
from equipoise.study import Inline, Store, findings, run
from equipoise.study.measuring import JOINT
from equipoise.study.train import TEST_AT_BEST
from equipoise.study.trial import MetricRow

chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
TABLE = Table(
    ["method", "Delta_m", "a rmse"],
    [
        [Cell("uw_so & more"), Cell("−2.1 [−4.0, 0.1]"), Cell("0.5 ± 0.1", "best")],
        [Cell("ew|x", "control"), Cell("+12.0"), Cell("–")],
    ],
    ["", "% ↑", "↓"],
)


def test_latex_has_the_rules_of_booktabs_and_no_bare_signs():
    text = TABLE.to_latex()
    assert text.startswith("\\begin{tabular}{lrr}\n\\toprule\n")
    assert r"uw\_so \& more & $-$2.1 [$-$4.0, 0.1] & \textbf{0.5 $\pm$ 0.1} \\" in text
    assert r"method & $\Delta_m$ & a rmse \\" in text and r" & \% $\uparrow$ & $\downarrow$" in text
    assert text.index("\\midrule") < text.index("uw") < text.index("\\bottomrule")
    assert latex(r"a\b{c}^~#") == r"a\textbackslash{}b\{c\}\textasciicircum{}\textasciitilde{}\#"


def test_csv_and_markdown_hold_the_same_cells():
    lines = TABLE.to_csv().splitlines()
    assert lines[0] == "method,Delta_m (% ↑),a rmse (↓)"
    assert lines[1] == 'uw_so & more,"-2.1 [-4.0, 0.1]",0.5 ± 0.1'
    marked = TABLE.to_markdown().splitlines()
    assert marked[2].endswith("**0.5 ± 0.1** |") and r"ew\|x" in marked[3]


def outcome(trial):
    """Another network at the best epoch than at the last one, and a metric of all tasks."""
    noise = 1 + 0.01 * ((trial.seed * 7 + len(trial.method)) % 5)
    last = fakes.result(trial, (noise, 2 * noise, 5 / noise))
    if trial.stage != "final":
        return last
    gain = 0.5 if trial.method == "gls" else 0.9
    best = [
        replace(row, epoch=1, split=TEST_AT_BEST, value=row.value * gain)
        for row in last.metrics
        if row.split == "test"
    ]
    whole = [] if trial.task else [MetricRow(trial.epochs, "test", JOINT, "worst error", 3 * noise)]
    return replace(last, metrics=(*last.metrics, *best, *whole))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "study.db"
    run(fakes.spec(methods=["gls", "uw"], checkpoint="loss"), path, Inline(outcome))
    with Store(path) as opened:
        yield opened


def test_metrics_of_all_tasks_have_a_table(store):
    table = joint(findings(store))
    assert table.columns == ["method", "worst error"]
    assert {row[0].text for row in table.rows} >= {"ew", "gls"}
    assert all(row[1].text.startswith("3.") for row in table.rows)


def test_the_test_split_at_the_best_epoch_has_a_table_with_its_own_delta_m(store):
    table = at_best(findings(store))
    rows = {row[0].text: row for row in table.rows}
    assert table.columns[-1] == "epoch" and rows["ew"][-1].text == "1.0"
    assert rows["single-task"][1].text == "reference"
    assert float(rows["gls"][2].text.split()[0]) < 0.6 < float(rows["ew"][2].text.split()[0])
    # Halving two errors is +44 %, halving the score of the other task is -44 %.
    assert rows["gls"][1].text != rows["ew"][1].text


def test_where_neither_was_measured_there_is_no_table(tmp_path):
    found = fakes.study(tmp_path, lambda trial: (1.0, 2.0, 5.0))
    assert joint(found) is None and at_best(found) is None


@pytest.fixture(scope="module")
def browser(store, tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.open(write(store), 1280)
        yield opened


HEAD = "document.querySelector('[data-table=results] thead th:nth-child({}) button')"


def column(browser, number):
    cells = f"document.querySelectorAll('[data-table=results] tbody tr > :nth-child({number})')"
    return browser.evaluate(f"[...{cells}].map(each => each.textContent)")


@chromium
def test_a_click_sorts_by_a_column_and_the_third_restores_the_order(browser):
    before = column(browser, 1)
    ways = []
    for way in ("descending", "ascending"):
        browser.evaluate(f"{HEAD.format(3)}.click()")
        values = [float(text.split()[0]) for text in column(browser, 3)]
        assert values == sorted(values, reverse=way == "descending")
        ways.append(browser.evaluate(f"{HEAD.format(3)}.parentElement.getAttribute('aria-sort')"))
    assert ways == ["descending", "ascending"]
    browser.evaluate(f"{HEAD.format(3)}.click()")
    assert column(browser, 1) == before
    assert not browser.evaluate(f"{HEAD.format(3)}.parentElement.hasAttribute('aria-sort')")


@chromium
def test_the_keyboard_sorts_too_and_what_has_no_number_comes_last(browser):
    browser.evaluate(f"{HEAD.format(2)}.focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call(
            "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r",
            windowsVirtualKeyCode=13,
        )  # fmt: skip
    assert column(browser, 2)[-1] == "reference"
    browser.evaluate(f"{HEAD.format(1)}.click()")
    assert column(browser, 1) == sorted(column(browser, 1))


@chromium
def test_a_table_is_copied_in_the_order_it_is_shown(browser):
    browser.evaluate(
        "navigator.clipboard.writeText = async (text) => { window.copied = text; };"
        f"{HEAD.format(3)}.click();"
        "[...document.querySelectorAll('[data-table=results]')][0].parentElement.nextElementSibling"
        ".querySelector('button').click()"
    )
    first = column(browser, 1)[0]
    lines = browser.evaluate("window.copied").split("\\midrule\n")[1]
    assert lines.startswith(latex(first)) and lines.endswith("\\end{tabular}\n")
    assert browser.errors == []


@chromium
def test_print_hides_the_buttons(browser):
    browser.call("Emulation.setEmulatedMedia", media="print")
    shown = browser.evaluate("getComputedStyle(document.querySelector('.copy')).display")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert shown == "none"


def test_a_small_difference_in_a_metric_near_zero_is_not_rounded_away(tmp_path):
    def scores(trial):
        noise = 0.0001 * np.random.default_rng([trial.seed, len(trial.method)]).normal()
        return 1.0, 2.0, noise + (0.01 if trial.method == "gls" else 0.0)

    found = fakes.study(tmp_path, scores, methods=["gls"])
    table = differences_by_task(found)
    own = next(row for row in table.rows if row[0].text == "gls")[-1]
    assert own.text.startswith("+0.0") and float(own.text) == pytest.approx(0.01, abs=1e-3)
    assert own.kind == "better"
