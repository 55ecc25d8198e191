"""Charts can be read with two tasks and with forty, with short names and with long ones."""

import json
import time

import fakes
import numpy as np
import pytest
import wide
from browser import CHROMIUM, Browser

from equipoise.report import write
from equipoise.report.charts import _gathered, gather
from equipoise.report.look import light, painted, short, shortened
from equipoise.report.trade import quality_and_cost
from equipoise.study import Inline, Store, findings, run

chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def noisy(trial):
    noise = 1 + 0.01 * np.random.default_rng([trial.seed, len(trial.method)]).normal()
    return fakes.result(trial, (noise, 2 * noise, 5 / noise), step_ms=len(trial.method))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    path = tmp_path_factory.mktemp("two") / "two.db"
    run(fakes.spec(methods=["gls", "uw"]), path, Inline(noisy))
    with Store(path) as store:
        yield findings(store)


@pytest.fixture(scope="module", params=[8, 40])
def many(request, tmp_path_factory):
    path = wide.study(tmp_path_factory.mktemp("wide") / "wide.db", request.param)
    with Store(path) as store:
        yield store


def marks(spec):
    found = spec.get("layer", [spec])
    return {
        each["mark"]["type"] if isinstance(each["mark"], dict) else each["mark"] for each in found
    }


def rows_of(spec, field):
    """The data of a chart that has this field."""
    return next(rows for rows in spec["datasets"].values() if field in rows[0])


def test_every_baseline_has_a_chart_and_the_first_one_is_tuned_fixed_weights(two):
    labels = [chart.label for chart in gather(two)["difference"]]
    assert labels == two.baselines
    assert labels[0] == "fixed weights (tuned)"


def test_a_point_names_its_method_its_setting_and_its_trial(two):
    for section in ("difference", "delta-m"):
        text = json.dumps(gather(two)[section][0].spec)
        ids = {trial.id[:12] for trial in two.arm("gls").runs}
        assert all(id_ in text for id_ in ids)
        assert '"title": "setting"' in text and '"title": "trial"' in text
    tuning = next(c for c in gather(two)["tuning"] if c.label == "gls")
    tried = [s.trial.id[:12] for s in two.stored.values() if s.trial.method == "gls"]
    assert any(id_ in json.dumps(tuning.spec) for id_ in tried)


def test_quality_against_cost_marks_what_nothing_beats(two):
    values = rows_of(quality_and_cost(two), "ratio")
    rows = {row["label"]: row for row in values}
    assert rows["ew"]["ratio"] == pytest.approx(1.0)
    assert "single-task" in rows
    for row in values:
        beaten = any(o["ratio"] <= row["ratio"] and o["value"] > row["value"] for o in values)
        assert (row["said"] == "another is faster and better") == beaten


def test_axes_have_names(two):
    def titles(spec):
        for channel in ("x", "y"):
            for layer in spec.get("layer", [spec]):
                title = layer.get("encoding", {}).get(channel, {}).get("title")
                if title:
                    yield channel, title

    for section, charts in gather(two).items():
        for chart in charts:
            known = {channel for channel, _ in titles(chart.spec)}
            # Names of methods need no name of their axis.
            assert known >= ({"x"} if section in ("difference", "delta-m", "cost") else {"x", "y"})


def test_names_of_charts_are_unique_and_fit_for_files(many):
    charts = [chart for section in gather(findings(many)).values() for chart in section]
    names = [chart.name for chart in charts]
    assert len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in names)


def test_many_tasks_have_maps_and_few_have_lines(many, two):
    found = findings(many)
    charts = gather(found)
    lines = len(found.single) <= 8
    assert ("line" in marks(charts["weights"][0].spec)) == lines
    assert ("line" in marks(charts["norms"][0].spec)) == lines
    assert marks(charts["cosines"][0].spec) == {"rect"}
    pairs = rows_of(charts["cosines"][0].spec, "value")
    assert len(pairs) == len(found.single) * (len(found.single) - 1)
    assert "rect" not in marks(gather(two)["weights"][0].spec)


def test_of_many_metrics_a_choice_is_shown_and_the_rest_is_folded(many):
    found = findings(many)
    curves = gather(found)["curve"]
    assert len(curves) == len(found.measures)
    shown = [chart for chart in curves if not chart.folded]
    assert len(shown) == (6 if len(curves) > 8 else len(curves))


def test_charts_keep_to_the_schema(two):
    assert _gathered(two).sections.keys() == gather(two).keys()


def test_names_keep_their_beginning_and_their_end():
    assert short("short") == "short"
    assert short("a" * 30 + "z" * 30, 26) == "a" * 17 + "…" + "z" * 8
    assert len(short("x" * 60, 26)) == 26


def test_an_axis_shortens_where_names_stay_apart():
    ends = shortened([f"{'a' * 40} {number:02d}" for number in range(9)])
    assert "slice(datum.label, -" in ends
    starts = shortened([f"one of the tasks {number:02d} {'a' * 40}" for number in range(9)])
    assert "slice(datum.label, -" not in starts


def test_the_light_colours_are_those_of_the_page():
    assert painted({"a": ["var(--ink)", 1]}) == {"a": [light()["--ink"], 1]}
    assert all(f"--task{number}" in light() for number in range(1, 9))


@pytest.fixture(scope="module")
def page(many):
    return write(many)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@chromium
@pytest.mark.parametrize("width", [390, 800, 1280])
def test_nothing_leaves_the_page_with_many_tasks(page, browser, width):
    browser.requests.clear()
    browser.errors.clear()
    browser.open(page, width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    widest = "Math.max(...[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().right))"
    assert browser.evaluate(widest) <= width
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.errors == []


@chromium
def test_what_is_folded_is_drawn_when_it_is_opened(many, page, browser):
    browser.open(page, 1280)
    undrawn = (
        "[...document.querySelectorAll('[data-chart]')].filter(each => !each.firstChild).length"
    )
    if len(findings(many).single) > 8:
        assert browser.evaluate(undrawn) > 0
    browser.evaluate(
        "document.querySelectorAll('details').forEach(each => { each.open = true; });"
        "new Promise(done => setTimeout(done, 500))"
    )
    deadline = time.monotonic() + 30
    while browser.evaluate(undrawn) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert browser.evaluate(undrawn) == 0
    assert browser.evaluate("document.documentElement.scrollWidth") <= 1280


@chromium
def test_a_shortened_label_tells_its_whole_name(page, browser):
    browser.open(page, 390)
    whole = browser.evaluate(
        "(() => { const text = [...document.querySelectorAll('.role-axis-label text')]"
        ".find(each => each.textContent.includes('…'));"
        "text.dispatchEvent(new MouseEvent('mouseover', { bubbles: true }));"
        "return text.querySelector('title').textContent; })()"
    )
    assert whole in {wide.LONG.format(0), wide.LONG.format(1), *wide.names(40)}
