"""One report across problems: what is ranked, what is said, what is drawn."""

import json
import re
from dataclasses import replace
from itertools import pairwise

import fakes
import numpy as np
import pytest
from browser import CHROMIUM, Browser
from typer.testing import CliRunner

from equipoise.cli.commands import app
from equipoise.report import pictures, pictures_across, write_across
from equipoise.report.across import table
from equipoise.report.diagram import diagram, groups
from equipoise.study import Inline, Store, run
from equipoise.study.across import across, careful, load, verdict

chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
GAINS = {"gls": 0.3, "scalarization": 0.1, "rlw": -0.1, "rgw": -0.2}


def study(folder, name, methods, gains=GAINS, seeds=3):
    def outcome(trial):
        noise = 1 + 0.01 * np.random.default_rng([trial.seed, len(trial.method)]).normal()
        level = noise * (1 - gains.get(trial.method, 0.0))
        return fakes.result(trial, (level, 2 * level, 5 / level))

    path = folder / f"{name}.db"
    run(fakes.spec(methods=methods, name=name, seeds=seeds), path, Inline(outcome))
    return path


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("across")
    kinds = [["gls", "uw"], ["gls", "uw"], ["gls", "dwa"], ["gls"], ["gls"], ["gls"]]
    return [
        study(folder, f"problem {number}", methods, seeds=3 + (number == 0))
        for number, methods in enumerate(kinds)
    ]


def test_only_arms_that_all_studies_share_are_ranked(stores):
    found = across(load(stores))
    assert set(found.labels) == {"fixed weights (tuned)", "ew", "rlw", "rgw", "gls"}
    ranks = dict(zip(found.labels, found.test.ranks, strict=True))
    assert ranks["gls"] == 1 and ranks["rgw"] == 5


def test_the_unit_is_the_problem_and_seeds_are_told_apart(stores):
    found = across(load(stores))
    assert (found.test.problems, found.deltas.shape) == (6, (5, 6))
    assert table(found).units[2:4] == ["% ↑, 4 seeds", "% ↑, 3 seeds"]
    text = verdict(found)
    assert "5 arms over 6 problems" in text and "gls has the best mean rank, 1.0" in text
    assert "shown to be ahead of" in text and "rgw" in text.split("ahead of")[1]


def test_few_problems_and_the_same_problem_twice_are_told(stores):
    said = " ".join(careful(across(load(stores[:2]))))
    assert "2 problems: the unit of the test is the problem" in said
    assert "2 studies are of the same problem" in said


def test_an_arm_that_finished_nowhere_in_a_problem_is_shown_but_not_ranked(stores, tmp_path):
    def outcome(trial):
        done = fakes.result(trial, (1.0, 2.0, 5.0))
        lost = trial.method == "gls"
        return replace(done, status="diverged", note="not finite") if lost else done

    path = tmp_path / "lost.db"
    run(fakes.spec(methods=["gls"], name="lost", seeds=3), path, Inline(outcome))
    found = across(load([stores[0], path]))
    assert found.left_out == {"gls": ["lost"]} and "gls" not in found.labels
    assert "gls has no Delta_m in lost" in " ".join(careful(found))
    assert table(found).rows[-1][0].text == "gls"


def test_one_study_is_too_few(stores):
    with pytest.raises(ValueError, match="two studies at least"):
        across(load(stores[:1]))


def test_studies_without_a_shared_arm_are_refused_with_what_each_has(stores):
    problems = load(stores[:2])
    for each in problems[1].found.arms:
        object.__setattr__(each.arm, "label", f"my {each.arm.label}")
    with pytest.raises(ValueError, match=r"share no arms.*gls.*my gls"):
        across(problems)


def test_the_page_links_the_report_of_every_problem(stores, tmp_path):
    page = write_across(stores, tmp_path / "all.html")
    html = page.read_text()
    links = re.findall(r'<a href="([^"]+)"', html)
    assert len(links) == len(set(links)) == 6
    assert all((tmp_path / link).exists() for link in links)
    assert "6 problems" in page.with_suffix(".md").read_text()


def test_the_command_takes_several_files_and_draws_the_diagram(stores, tmp_path):
    arguments = [*map(str, stores), "--out", str(tmp_path), "--figures", str(tmp_path / "figures")]
    done = CliRunner().invoke(app, ["report", *arguments], catch_exceptions=False)
    assert done.stdout.strip() == str(tmp_path / "across.html")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    kinds = ("critical-difference", "performance-profile")
    assert names == {f"{kind}.{ending}" for kind in kinds for ending in ("png", "svg", "pdf")}
    assert "var(" not in (tmp_path / "figures" / "critical-difference.svg").read_text()


def test_machines_get_ranks_tests_and_counts_of_several_studies(stores):
    done = CliRunner().invoke(app, ["report", *map(str, stores), "--json"], catch_exceptions=False)
    told = json.loads(done.stdout, parse_constant=pytest.fail)
    assert told["report"] is None
    assert [len(each["seeds"]) for each in told["problems"]] == [4, 3, 3, 3, 3, 3]
    assert told["friedman"]["problems"] == 6 and told["friedman"]["p"] < 0.05
    nemenyi = told["nemenyi"]
    assert nemenyi["best"] == "gls" and "rgw" in nemenyi["behind"]
    ranks = {each["arm"]: each["rank"] for each in told["arms"]}
    assert ranks["gls"] == 1 and ranks["rgw"] == 5
    assert ranks["rgw"] - ranks["gls"] > nemenyi["critical_difference"]
    gls = next(each for each in told["arms"] if each["arm"] == "gls")
    assert set(gls["delta_m"]) == {f"problem {number}" for number in range(6)}
    assert gls["iqm"]["low"] > 0 and gls["chance"]["value"] == 1
    # Six problems in one direction: 2 of 64 patterns of signs.
    assert gls["sign_flip_p"] == pytest.approx(2 / 64)
    assert {each["kind"] for each in told["stability"]} == {"problem", "method"}


def test_all_runs_have_a_profile_and_other_yardsticks(stores, tmp_path):
    page = write_across(stores, tmp_path / "all.html")
    for text in (page.read_text(), page.with_suffix(".md").read_text()):
        assert "interquartile mean" in text and "Kendall's tau" in text.replace("&#39;", "'")
    assert 'data-chart="performance-profile"' in page.read_text()


def test_groups_are_the_largest_runs_within_the_critical_difference():
    assert groups([1.0, 1.5, 2.4, 4.0], 1.0) == [(0, 1), (1, 2)]
    assert groups([3.0, 1.0, 2.0], 5.0) == [(0, 2)]
    assert groups([1.0, 3.0, 5.0], 1.0) == []


@pytest.mark.parametrize("width", [350, 760])
@pytest.mark.parametrize("arms", [3, 12, 20])
def test_labels_of_the_diagram_do_not_overlap(arms, width):
    names = [f"a method with a long label, number {number}" for number in range(arms)]
    # Ranks close together, where labels would collide if they stood at their ranks.
    drawn = diagram(names, [2 + number / 100 for number in range(arms)], 3.0, width)
    found = re.findall(
        r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(start|end)"[^>]*>([^<]*)<title', drawn
    )
    assert len(found) == arms
    for side in ("start", "end"):
        heights = sorted(float(y) for _, y, anchor, _ in found if anchor == side)
        assert all(b - a >= 15 for a, b in pairwise(heights))
    for x, _, anchor, text in found:
        end = float(x) + (1 if anchor == "start" else -1) * 6.7 * len(text)
        assert -12 <= end <= width + 12


def test_every_chart_of_a_study_is_a_picture_in_three_forms(stores, tmp_path):
    with Store(stores[0], read_only=True) as store:
        made = pictures(store, tmp_path / "out")
    names = {path.name for path in made}
    assert {
        "difference-ew.png",
        "difference-ew.svg",
        "difference-ew.pdf",
        "quality-cost.svg",
    } <= names
    assert len(names) == 3 * len({path.stem for path in made})
    assert (tmp_path / "out" / "cost.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "cost.pdf").read_bytes().startswith(b"%PDF")
    drawn = (tmp_path / "out" / "difference-ew.svg").read_text()
    assert "Difference to ew" in drawn and "better" in drawn and "var(" not in drawn


def test_one_study_draws_its_charts_by_the_command(stores, tmp_path):
    arguments = ["report", str(stores[0]), "--figures", str(tmp_path / "f"), "--json"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert '"report": null' in done.stdout and (tmp_path / "f" / "delta-m.png").exists()
    assert pictures_across(stores[:2], tmp_path / "g")


@chromium
@pytest.mark.parametrize(("width", "dark"), [(390, True), (800, False), (1280, False)])
def test_the_page_fits_and_has_no_errors(stores, tmp_path, width, dark):
    page = write_across(stores[:3], tmp_path / "all.html")
    with Browser(tmp_path / "profile") as browser:
        browser.open(page, width, dark)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        seen = (
            "[...document.querySelectorAll('.ranks')].filter(e => e.getClientRects().length).length"
        )
        assert browser.evaluate(seen) == 1
        assert browser.requests == [page.resolve().as_uri()]
        assert browser.errors == []


def test_a_study_counts_once(stores):
    with pytest.raises(ValueError, match="was given twice: a study counts once"):
        load([stores[0], *stores])
