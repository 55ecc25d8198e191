"""``equipoise report --json`` and ``equipoise run --json`` print one object, from one function."""

import json

import fakes
import pytest
from typer.testing import CliRunner

from equipoise.cli.commands import app
from equipoise.cli.result import to_json
from equipoise.study import Inline, run

KEYS = {
    *(
        "study",
        "problem",
        "protocol",
        "seeds",
        "reference",
        "baselines",
        "gate",
        "verdict",
        "advice",
    ),
    *("warnings", "arms", "single_task", "comparisons", "robust"),
    *("stability", "store", "report"),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("json") / "study.db"
    level = {"gls": 0.8}
    run(
        fakes.spec(methods=["gls", "uw"]),
        path,
        Inline(
            lambda trial: fakes.result(
                trial, tuple(x * level.get(trial.method, 1.0) for x in _scores(trial))
            )
        ),
    )
    return path


def _scores(trial):
    noise = 1 + 0.01 * ((trial.seed * 7 + len(trial.method)) % 5)
    return (noise, 2 * noise, 5 / noise)


def printed(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout, parse_constant=pytest.fail)


def test_the_result_is_one_strict_object_with_stable_keys(store):
    told = printed("report", store, "--json")
    assert set(told) == KEYS
    assert told["report"] is None and not store.with_suffix(".html").exists()
    gls = next(each for each in told["arms"] if each["arm"] == "gls")
    assert set(gls["outcomes"]) == set(told["baselines"])
    assert set(gls["delta_m"]) == {"value", "low", "high", "runs"}
    pair = next(e for e in told["comparisons"] if (e["arm"], e["baseline"]) == ("gls", "ew"))
    assert {"outcome", "text", "value", "low", "high", "runs", "p", "p_holm", "wins"} <= set(pair)
    assert pair["outcome"] == gls["outcomes"]["ew"]
    assert told["advice"] and all(set(each) == {"id", "text"} for each in told["warnings"])


def test_with_out_the_report_is_written_too(store, tmp_path):
    told = printed("report", store, "--json", "--out", tmp_path / "r.html")
    assert told["report"] == str(tmp_path / "r.html") and (tmp_path / "r.html").exists()


def test_what_is_not_finite_is_null():
    assert json.loads(to_json({"a": [float("nan"), 1.0], "b": (float("inf"),)})) == {
        "a": [None, 1.0],
        "b": [None],
    }


def test_gates_let_later_baselines_wait_and_are_told(tmp_path):
    """gls is better than all; uw is better than random weights, and no better than tuned fixed ones."""

    def outcome(trial):
        a, b, c = _scores(trial)
        level = {"gls": 0.8, "rlw": 1.2}.get(trial.method, 1.0)
        return fakes.result(trial, (a * level, b * level, c / level))

    store = tmp_path / "s.db"
    run(fakes.spec(methods=["gls", "uw"]), store, Inline(outcome))
    plain, gated = printed("report", store, "--json"), printed("report", store, "--json", "--gate")
    assert gated["gate"] and not plain["gate"]
    assert "gates" in {each["id"] for each in gated["warnings"]}
    outcomes = [{e["arm"]: e["outcomes"] for e in told["arms"]} for told in (plain, gated)]
    assert [each["gls"]["rlw"] for each in outcomes] == ["better", "better"]
    assert [each["uw"]["rlw"] for each in outcomes] == ["better", "untested"]
    run(
        fakes.spec(methods=["uw"]),
        tmp_path / "alike.db",
        Inline(lambda t: fakes.result(t, _scores(t))),
    )
    said = " ".join(printed("report", tmp_path / "alike.db", "--json", "--gate")["verdict"])
    assert "No difference to tuned fixed weights" in said and "No difference to equal" not in said
    page = tmp_path / "g.html"
    printed("report", store, "--json", "--gate", "--out", page)
    assert "behind a gate that stayed closed" in page.read_text()
