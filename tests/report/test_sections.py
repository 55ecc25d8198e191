"""Sections beyond the comparison: what is computed for them, and that every form of a report has them."""

import re

import pytest

from equipoise.report import write
from equipoise.report.page import SECTIONS
from equipoise.study import Store
from equipoise.study.analyses import front


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
