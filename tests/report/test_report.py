import csv
import io
import re
from dataclasses import replace

import fakes
import numpy as np
import pytest
from browser import CHROMIUM, Browser

from equipoise.report import comparisons, results, write
from equipoise.report.tables import number
from equipoise.study import Failure, Inline, Store, findings, headline, run, sentence, warnings
from equipoise.study.statistics import Estimate
from equipoise.study.trial import GradientRow, WeightRow

chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
NASTY = "</script><script>alert(1)</script>"


def outcome(trial):
    """Curves, weights and gradients; gls is better by a tenth, dwa diverges once, graddrop fails once."""
    noise = 1 + 0.01 * np.random.default_rng(trial.seed).normal()
    worse = {0.001: 1.3, 0.01: 1.0, 0.1: 1.1}[trial.learning_rate]
    gain = 0.9 if trial.method == "gls" else 1.0
    last = fakes.result(trial, (worse * noise * gain, 2 * worse * noise, 5 / worse / noise / gain))
    first = [
        replace(row, epoch=1, value=row.value * 1.5) for row in last.metrics if row.split != "test"
    ]
    done = replace(
        last,
        metrics=(*first, *last.metrics),
        weights=()
        if trial.task
        else tuple(WeightRow(e, t, 0.5, 0.1) for e in (1, 2) for t in "ab"),
        gradients=tuple(
            GradientRow(epoch, *pair)
            for epoch in (1, 2)
            for pair in (("a", "a", 2.0), ("b", "b", 0.1), ("a", "b", -0.3))
        ),
    )
    if (trial.method, trial.stage, trial.seed) == ("dwa", "final", 1):
        return replace(done, status="diverged", note="the loss of 'a' is not finite in epoch 2")
    if (trial.method, trial.stage, trial.seed) == ("graddrop", "final", 1):
        return Failure(f"Traceback\nRuntimeError: {NASTY}")
    return done


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "study.db"
    run(
        fakes.spec(methods=["gls", "dwa", "graddrop", "uw"], name=f"a {NASTY}"),
        path,
        Inline(outcome),
    )
    with Store(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(store):
    return write(store)


def test_the_page_says_the_verdict_before_anything_else(store, page):
    html = page.read_text()
    found = findings(store)
    first = headline(found)[0].text
    assert "gls" in first
    body = html[html.index("<body>") :]
    assert body.index("Better than equal weights (ew): gls") < body.index("<h2")


def test_the_page_holds_every_warning_and_every_comparison(store, page):
    text = _text(page.read_text())
    found = findings(store)
    for warning in warnings(found):
        assert _plain(warning.text) in text
    for each in found.arms:
        for baseline in each.against:
            assert _plain(sentence(each, baseline).text) in text


def test_trials_that_failed_or_diverged_are_on_the_page(page):
    text = _text(page.read_text())
    assert "the loss of 'a' is not finite in epoch 2" in text
    assert "RuntimeError:" in text and "graddrop, final" in text


def test_the_page_names_nothing_outside_itself(page):
    html = re.sub(r"(<script[^>]*>).*?</script>", r"\1", page.read_text(), flags=re.DOTALL)
    assert html.count("<script") == 3
    assert not re.search(r"<[^>]+\ssrc\s*=", html)
    assert re.findall(r'<link[^>]*href="([^"]*)"', html) == ["data:,"]
    assert "default-src 'none'" in html
    assert "@import" not in html.split("</style>")[0]


def test_names_and_errors_cannot_break_out_of_the_page(page):
    html = page.read_text()
    assert NASTY not in html
    assert html.count("</script>") == 3


def test_markdown_and_csv_lie_beside_the_page(store, page):
    markdown = page.with_suffix(".md").read_text()
    assert "Better than equal weights (ew): gls" in markdown
    assert "| gls |" in markdown and "learning_rates = [0.001, 0.01, 0.1]" in markdown
    rows = list(csv.DictReader(io.StringIO(page.with_suffix(".csv").read_text())))
    tests = [row for row in rows if row["split"] == "test"]
    found = findings(store)
    gls = sorted(float(r["value"]) for r in tests if r["method"] == "gls" and r["metric"] == "rmse")
    assert gls == pytest.approx(sorted(found.arm("gls").scores[:, 0]))
    assert {row["status"] for row in rows} == {"done", "diverged", "failed"}
    assert len({row["trial"] for row in rows}) == len(found.stored)


def test_the_study_on_the_page_is_the_study(store, page):
    assert findings(store).spec.to_toml().splitlines()[1] in page.with_suffix(".md").read_text()


def test_a_report_can_be_written_elsewhere(store, tmp_path):
    assert write(store, tmp_path / "deep" / "r.html") == tmp_path / "deep" / "r.html"
    assert (tmp_path / "deep" / "r.md").exists()


def test_half_a_study_has_a_report(tmp_path):
    class Stops:
        def run(self, trials):
            for trial in trials[:3]:
                yield trial, outcome(trial)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(fakes.spec(), tmp_path / "half.db", Stops())
    with Store(tmp_path / "half.db") as half:
        assert "Nothing can be said yet" in write(half).read_text()


def test_an_empty_file_has_none(tmp_path):
    with (
        Store(tmp_path / "empty.db") as empty,
        pytest.raises(ValueError, match="holds no study yet"),
    ):
        write(empty)


def test_results_list_the_best_method_first_after_the_reference(store):
    table = results(findings(store))
    assert [row[0].text for row in table.rows[:2]] == ["single-task", "gls"]
    assert all(len(row) == len(table.columns) == len(table.units) for row in table.rows)
    assert table.rows[1][1].kind == "best"


def test_comparisons_say_in_a_word_what_was_shown(store):
    table = comparisons(findings(store))
    said = {row[0].text: row[4] for row in table.rows}
    assert (said["gls"].text, said["gls"].kind) == ("better", "better")
    assert said["uw"].text == "not shown"


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(90.512, 90.0, 91.0, 5), "90.51 ± 0.50"),
        (Estimate(0.16666, 0.1638, 0.1696, 5), "0.1667 ± 0.0029"),
        (Estimate(1234.5, 1200.0, 1269.0, 5), "1234 ± 34"),
        (Estimate(-2.0, -3.5, -0.5, 5), "−2.0 ± 1.5"),
        (Estimate(0.5, np.nan, np.nan, 1), "0.5"),
        (None, "–"),
    ],
)
def test_numbers_have_as_many_digits_as_their_interval_allows(estimate, text):
    assert number(estimate) == text


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@chromium
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, False), (360, True)])
def test_in_a_browser_the_page_fits_draws_asks_for_nothing_and_has_no_errors(
    page, browser, width, dark
):
    browser.requests.clear()
    browser.errors.clear()
    browser.open(page, width, dark)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    charts = browser.evaluate("document.querySelectorAll('[data-chart]').length")
    drawn = browser.evaluate("document.querySelectorAll('[data-chart] svg').length")
    assert drawn == charts > 10
    widest = "Math.max(...[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().right))"
    assert browser.evaluate(widest) <= width
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.errors == []


@chromium
def test_in_dark_mode_page_and_charts_change_their_colours(page, browser):
    colours = []
    for dark in (False, True):
        browser.open(page, 800, dark)
        colours.append(
            (
                browser.evaluate("getComputedStyle(document.body).backgroundColor"),
                browser.evaluate(
                    "document.querySelector('[data-chart] svg text').getAttribute('fill')"
                ),
            )
        )
    assert colours[0][0] != colours[1][0]
    assert colours[0][1] != colours[1][1]


def _text(html):
    body = html[html.index("<body>") : html.index('<script type="application/json"')]
    return _plain(re.sub(r"<[^>]+>", "", body))


def _plain(text):
    for entity, char in (
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&#39;", "'"),
        ("&#34;", '"'),
        ("&amp;", "&"),
    ):
        text = text.replace(entity, char)
    return re.sub(r"\s+", " ", text.replace("Delta_m", "Δm"))
