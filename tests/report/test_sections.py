"""Sections beyond the comparison: what is computed for them, and that every form of a report has them."""

import re

import pytest

from equipoise.report import pictures, write
from equipoise.report.fronts import front_chart, key
from equipoise.report.labels import NARROW, NOWHERE, spots
from equipoise.report.page import SECTIONS, _wrapped
from equipoise.report.panels import _powers
from equipoise.study import Store, findings
from equipoise.study.analyses import front
from equipoise.study.labels import moving


def test_the_front_of_a_setting_is_computed_once_for_verdict_and_page(
    frontier, tmp_path, monkeypatch
):
    asked = []
    own = front._front
    monkeypatch.setattr(
        front, "_front", lambda found, kind: (asked.append(kind), own(found, kind))[1]
    )
    with Store(frontier) as store:
        write(store, tmp_path / "page.html")
    # Two settings of the sweep.
    assert sorted(asked) == sorted(2 * front.KINDS)


@pytest.fixture(scope="module")
def page(frontier, tmp_path_factory):
    with Store(frontier) as store:
        return write(store, tmp_path_factory.mktemp("page") / "frontier.html")


# Metrics of all tasks and the test split at the best epoch were not measured, and there are few tasks.
ABSENT = {"per-task", "joint", "at-best"}


def test_markdown_has_the_numbers_of_every_section(page):
    text = page.with_suffix(".md").read_text()
    for name, title in SECTIONS:
        assert (f"## {title}\n" in text) == (name not in ABSENT), name


def test_every_table_of_the_page_is_in_markdown_too(page):
    shown = set(re.findall(r'<table data-table="([^"]+)"', page.read_text()))
    assert shown == {name for name, _ in SECTIONS if name not in ABSENT} | {
        "comparisons",
        "results",
    }


def test_numbers_are_those_of_the_charts(page):
    text = page.with_suffix(".md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    front = next(row for row in rows if row[0] == "| gls" and "beyond |" in row[-1])
    assert float(front[1]) < 1 and "+" in front[3]
    # From 0.2 of 0.7 to 0.2 of 0.5.
    assert ["| uw", "0.29 → 0.40", "0.71 → 0.60 |"] in rows
    assert ["| a · b", "cosine", "−0.30", "−0.30 |"] in rows
    assert ["| a", "norm", "4", "4 |"] in rows
    assert any(row[0] == "| method × seed" or row[0] == "| method" for row in rows)


@pytest.fixture(scope="module")
def drawn(frontier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    with Store(frontier) as store:
        pictures(store, folder)
        return folder, front.fronts(findings(store))


def test_pictures_of_fronts_name_every_method_in_a_legend(drawn):
    folder, fronts = drawn
    files = sorted(folder.glob("front-*.svg"))
    assert len(files) == 3
    for file, own in zip(files, fronts, strict=True):
        legend = re.findall(r"role-legend-label.*?</g></g>", file.read_text(), re.DOTALL)
        named = set(re.findall(r"<text[^>]*>([^<]+)</text>", "".join(legend)))
        assert {each.label for each in own.methods} | {"fixed weights"} <= named


def test_every_method_of_a_front_has_a_sign_of_its_own(drawn):
    marks = key(drawn[1][0])
    assert len({(mark.color, mark.shape) for mark in marks}) == len(marks)
    colors = {mark.name: mark.color for mark in marks}
    assert all(colors[name] == colors[moving(name)] for name in colors)


def test_the_line_of_a_front_is_what_it_reaches_and_no_straight_way_between_points(drawn):
    text = str(front_chart(drawn[1][0], 0, 1))
    assert "'interpolate': 'step-after'" in text and "'datum.on'" in text


def test_what_lies_beyond_is_ringed(drawn):
    rows = [row for each in drawn[1] for row in _placed_rows(front_chart(each, 0, 1))]
    assert {row["who"] for row in rows if row["beyond"]} == {"gls"}


def _placed_rows(spec):
    """All rows of a chart that say whether they lie beyond."""
    if isinstance(spec, dict):
        if "beyond" in spec:
            yield spec
        for each in spec.values():
            yield from _placed_rows(each)
    elif isinstance(spec, list):
        for each in spec:
            yield from _placed_rows(each)


def test_names_beside_points_do_not_run_into_one_another():
    points = [(100.0, 100.0 + number) for number in range(8)] + [(5.0, 300.0)]
    found = spots(points, [f"name {number}" for number in range(9)], range(9))
    # There is room for some of those at one place, none twice, and for the one that stands alone.
    near = [spot for spot in found[:8] if spot != NOWHERE]
    assert 2 <= len(near) == len(set(near)) < 8
    assert found[8] != NOWHERE and NARROW > 200


def test_pictures_of_training_losses_name_their_lines(drawn):
    text = (drawn[0] / "convergence.svg").read_text()
    assert all(f">{name}</text>" in text for name in ("ew", "rlw", "rgw", "the others"))


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ((2.0, 4.0), [2, 3, 4]),
        ((0.02, 0.9), [0.02, 0.05, 0.1, 0.2, 0.5]),
        ((1.1, 1.2), [1.1, 1.2]),
    ],
)
def test_a_logarithmic_axis_has_two_ticks_at_least(values, ticks):
    assert _powers(values) == pytest.approx(ticks)


def test_a_long_heading_breaks_after_its_signs_and_never_inside_of_a_tag():
    assert _wrapped("Delta_m, every metric alike/here") == (
        "Δ<sub>m</sub>, every metric alike/<wbr>here"
    )
    assert "&lt;b&gt;" in _wrapped("a name <b> of more than twenty letters")
