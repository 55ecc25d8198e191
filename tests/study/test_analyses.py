"""Fronts, sensitivity, size, convergence and flatness, on numbers whose answer is known."""

from dataclasses import replace

import fakes
import numpy as np
import pytest

from equipoise.report.fronts import front_chart
from equipoise.study import Candidate, Choice, Store, advice, headline, warnings
from equipoise.study.analyses import (
    convergence,
    flatness,
    fronts,
    per_task,
    sizes,
    sparse_grids,
    variance_of,
)
from equipoise.study.fixed import FIXED
from equipoise.study.statistics import dominated
from equipoise.study.trial import MetricRow, WeightRow

FRONTIER = {"protocol": "frontier", "tuning": "per seed", "weight_step": 0.125, "seeds": 5}


def noise(trial, size=0.005):
    key = [trial.seed, len(trial.method), int(1e6 * trial.learning_rate), len(trial.method_options)]
    return size * np.random.default_rng(key).normal(size=2)


def on_the_front(trial, gain=0.0):
    """Losses x and y with x y = 1: fixed weights move along the front, others lie at its middle."""
    ratio = 1.0
    if trial.method in ("scalarization", "task_sampling"):
        weights = trial.options()["weights"]
        ratio = weights[1] / weights[0]
    # A wrong learning rate is worse in everything.
    worse = 1.0 if trial.learning_rate == 0.01 else 1.3
    x, y = ratio**0.25 * worse - gain, ratio**-0.25 * worse - gain
    return np.array([x, y]) + noise(trial)


def outcome(**gains):
    def ended(trial):
        a, b = on_the_front(trial, gains.get(trial.method, 0.0))
        done = fakes.with_losses(trial, float(a), float(b))
        weights = (WeightRow(1, "a", 0.2, 0.0), WeightRow(1, "b", 0.6, 0.0))
        return replace(done, weights=() if trial.task else weights)

    return ended


@pytest.fixture(scope="module")
def frontier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frontier")
    return fakes.ran(folder, outcome(gls=0.2), methods=["gls", "uw"], **FRONTIER)


def test_the_protocol_tries_weights_all_along_samples_them_and_freezes_every_dynamic_method(
    frontier,
):
    fixed = frontier.arm(FIXED)
    assert fixed.arm.space.size == 3 * 8
    assert frontier.arm("task sampling (tuned)").arm.space.size == 3 * 8
    assert {"gls", "uw", "rlw", "rgw"} <= set(frontier.frozen)
    frozen = frontier.frozen["uw"]
    assert frozen.choice.complete
    assert {c.option("weights") == [0.5, 1.5] for c in frozen.choice.scores} == {True}
    assert not any("finished" in each.text for each in warnings(frontier))


def test_a_method_beyond_the_front_is_found_and_one_on_it_is_not(frontier):
    made = fronts(frontier)
    assert [each.kind for each in made] == ["test loss", "test metric", "training loss"]
    for each in made:
        by = {method.label: method for method in each.methods}
        assert (
            by["gls"].shown() and by["gls"].chance == 1 and by["gls"].beyond > 3 * by["gls"].error
        )
        assert not by["uw"].shown() and not by["ew"].shown()
        on = [point for point, there in zip(each.points, each.on, strict=True) if there]
        assert {point.candidate.learning_rate for point in on} == {0.01}
        assert len(on) >= 7 and each.band is not None
        assert each.volume > 0 and each.error > 0 and each.left_out == ()
        # What lies beyond the front is nearer to all of it.
        assert 0 <= by["gls"].distance < by["uw"].distance


def test_the_verdict_says_who_is_beyond_the_front(frontier):
    said = [each.text for each in headline(frontier)]
    assert any(
        each.startswith("Beyond all fixed weights that were tried, in test loss: gls (p")
        for each in said
    )


def test_metrics_point_the_way_they_are_read(frontier):
    metric = fronts(frontier)[1]
    assert metric.objectives == ("a: rmse", "b: score")
    assert metric.higher.tolist() == [False, True]
    # The score is 10 - y, and y is near 1.
    assert all(8 < method.mean[1] < 10 for method in metric.methods)


def test_being_beyond_is_seldom_shown_for_methods_on_the_front():
    random = np.random.default_rng(0)
    candidates = np.stack([[x, 1 / x] for x in np.linspace(0.6, 1.6, 9)])
    shown = 0
    for _ in range(400):
        seen = candidates[:, None] + 0.05 * random.normal(size=(9, 5, 2))
        own = np.array([1.0, 1.0]) + 0.05 * random.normal(size=(5, 2))
        shown += dominated(own, seen) <= 0.05
    # At most 5 %, three standard errors allowed.
    assert shown / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_without_noise_nothing_is_shown_beyond_the_front():
    candidates = np.ones((4, 5, 2))
    assert dominated(np.full((5, 2), 0.5), candidates) == 1
    assert dominated(np.full((5, 2), 0.5), candidates + 1e-16 * np.arange(5)[:, None]) == 1


def test_where_nothing_varies_there_is_no_variance_to_share_out(tmp_path):
    found = fakes.study(tmp_path, lambda trial: (1.0, 1.0, 5.0), tuning="per seed", methods=["uw"])
    assert variance_of(found)[0] == {}


def test_a_method_that_forwards_more_examples_needs_more_of_them(tmp_path):
    def ended(trial):
        done = fakes.with_losses(trial, 1.0, 1.0)
        rows = tuple(
            MetricRow(epoch, "train", task, "loss", 1 - epoch / 10)
            for epoch in range(1, 6)
            for task in ("a", "b")
            if trial.task in (None, task)
        )
        kept = tuple(row for row in done.metrics if row.split != "train")
        cost = replace(done.cost, samples=160 if trial.method == "uw" else 80)
        return replace(done, metrics=kept + rows, cost=cost)

    found = fakes.ran(tmp_path, ended, epochs=5, methods=["uw"])
    told = {each.label: each.needed for each in convergence(found)}
    assert told["ew"] == pytest.approx(1) and told["uw"] == pytest.approx(2)


def test_a_method_that_diverges_everywhere_does_not_leave_the_study_unfinished(tmp_path):
    def ended(trial):
        done = fakes.with_losses(trial, 1.0, 1.0)
        return replace(done, status="diverged", note="a") if trial.method == "uw" else done

    found = fakes.ran(tmp_path, ended, methods=["uw"], tuning="per seed")
    assert "unfinished" not in {each.id for each in warnings(found)}
    assert advice(found) != [
        "Let the study finish first: the same command goes on where it stopped."
    ]


def test_a_choice_does_not_depend_on_the_order_of_a_set():
    one, two = Candidate(0.3, "{}"), Candidate(0.5, "{}")
    scores = {one: (1.0, float("nan")), two: (0.5, 0.5)}
    assert Choice((one, two), scores, True).candidate == two


def test_a_front_of_one_value_has_axes_that_can_be_drawn(tmp_path):
    def ended(trial):
        return fakes.with_losses(trial, 0.3, 0.5 + 0.1 * np.random.default_rng(trial.seed).random())

    found = fakes.ran(tmp_path, ended, **{**FRONTIER, "seeds": 3})
    layers = [layer for front in fronts(found) for layer in front_chart(front, 0, 1)["layer"]]
    scales = [
        layer["encoding"][axis].get("scale", {})
        for layer in layers
        for axis in layer["encoding"]
        if axis in "xy"
    ]
    domains = [scale["domain"] for scale in scales if "domain" in scale]
    assert len(domains) >= 12
    assert all(high - low > 1e-3 for low, high in domains)


def test_two_seeds_show_nothing_beyond_the_front():
    assert np.isnan(dominated(np.zeros((2, 2)), np.ones((4, 2, 2))))


def test_where_tuning_is_done_once_there_is_no_front(tmp_path):
    assert fronts(fakes.ran(tmp_path, outcome())) == []


def test_a_sparse_grid_that_misses_the_good_rate_costs_what_it_misses(tmp_path):
    def scores(trial):
        worse = {0.001: 1.5, 0.003: 1.2, 0.01: 1.0, 0.03: 1.2}[trial.learning_rate]
        worse *= 1 + 0.001 * np.random.default_rng(trial.seed).normal()
        return worse, worse, 10 / worse

    rates = [0.001, 0.003, 0.01, 0.03]
    found = fakes.study(tmp_path, scores, tuning="per seed", learning_rates=rates)
    told = {each.label: each for each in sparse_grids(found)}
    equal = told["ew"]
    assert equal.grids == ((0.001, 0.01), (0.003, 0.03))
    # One grid finds what the single-task networks found, the other is a fifth worse.
    assert equal.deltas[0] == pytest.approx(0, abs=0.2)
    assert equal.deltas[1] == pytest.approx(-100 * (0.2 + 1 - 1 / 1.2) / 2, abs=0.5)
    assert equal.ratio > 20


def test_variance_is_shared_out_between_rate_decay_method_and_seed(tmp_path):
    def scores(trial):
        # Additive effects in score, so that shares are known: rate 3 : decay 1, no others.
        rate = {0.01: 0.0, 0.1: np.sqrt(3.0)}[trial.learning_rate]
        decay = {0.0: 0.0, 0.1: 1.0}[trial.weight_decay]
        return 1.0, 1.0, 10 + rate + decay

    found = fakes.study(
        tmp_path,
        scores,
        tuning="per seed",
        learning_rates=[0.01, 0.1],
        weight_decays=[0.0, 0.1],
        methods=["uw"],
    )
    shares, labels = variance_of(found)
    assert labels == ["ew", "rlw", "rgw", "uw"]
    assert shares["learning rate",] == pytest.approx(0.75)
    assert shares["weight decay",] == pytest.approx(0.25)
    assert sum(shares.values()) == pytest.approx(1)


def test_a_sweep_runs_the_comparison_at_every_size(tmp_path):
    def ended(trial):
        rows = int(trial.problem_options[:-1].rpartition(":")[2])
        spread = 0.2 if rows == 48 else 0.02
        gain = {"uw": spread, "gls": -spread}.get(trial.method, 0.0)
        gain += 0.001 * np.random.default_rng([trial.seed, len(trial.method)]).normal()
        return fakes.with_losses(trial, 1 - gain, 2 - gain)

    options = {"sweep": {"rows": [48, 96]}, "methods": ["uw", "gls"], "tuning": "per seed"}
    found = fakes.ran(tmp_path, ended, **options)
    with Store(tmp_path / "fake.db") as store:
        small, large = sizes(store, found, [])
    assert (small.setting, large.setting) == ("rows = 48", "rows = 96")
    assert found.settings == ("rows = 48", "rows = 96")
    assert small.spread > 5 * large.spread > 0
    assert small.epsilon == {}


def test_an_option_in_sweep_and_problem_is_refused():
    with pytest.raises(ValueError, match="'rows' is in sweep and in problem_options"):
        fakes.spec(sweep={"rows": [1, 2]}, problem_options={"rows": 3})


def test_convergence_is_told_against_equal_weights(tmp_path):
    def ended(trial):
        done = fakes.with_losses(trial, 1.0, 1.0)
        pace = 1.0 if trial.method == "rlw" else 2.0
        rows = tuple(
            MetricRow(epoch, "train", task, "loss", 1 - pace * epoch / 20)
            for epoch in range(1, 11)
            for task in ("a", "b")
            if trial.task in (None, task)
        )
        kept = tuple(row for row in done.metrics if row.split != "train")
        return replace(done, metrics=kept + rows)

    told = {each.label: each for each in convergence(fakes.ran(tmp_path, ended, epochs=10))}
    assert told["ew"].needed == pytest.approx(1)
    assert told["rlw"].needed == float("inf")
    assert told["rgw"].needed == pytest.approx(1)
    assert told["ew"].samples[-1] == 80


def test_flatness_is_told_where_it_was_measured(tmp_path):
    def ended(trial):
        rise = {"rlw": 1.1, "ew": 1.3}.get(trial.method, 1.2)
        rise += 0.01 * np.random.default_rng([trial.seed, len(trial.method)]).normal()
        return fakes.with_losses(trial, 1.0, 2.0, around={"a": rise, "b": 2 * rise})

    found = fakes.ran(tmp_path, ended, flatness=0.1)
    told = {each.label: each for each in flatness(found)}
    assert told["ew"].rise.value == pytest.approx(30, abs=2) and told["ew"].against is None
    assert told["rlw"].against.value == pytest.approx(-20, abs=2) and told["rlw"].against.shown()


def test_where_flatness_was_not_measured_nothing_is_said(tmp_path):
    assert flatness(fakes.ran(tmp_path, lambda t: fakes.with_losses(t, 1.0, 2.0))) == []


def test_the_weighting_protocol_refines_the_temperature_and_tries_every_weight(tmp_path):
    def ended(trial):
        temperature = trial.options().get("temperature", 1.0)
        worse = 1 + 0.1 * abs(np.log(temperature / 50))
        return fakes.with_losses(trial, worse, worse)

    options = {"protocol": "weighting", "tuning": "per seed", "methods": ["uw_so"], "seeds": 3}
    found = fakes.ran(tmp_path, ended, learning_rates=[0.01, 0.1], **options)
    assert found.arm(FIXED).arm.space.size == 9 * 2
    uw_so = found.arm("uw_so")
    tried = sorted({c.option("temperature") for c in uw_so.choice.scores})
    assert uw_so.choice.complete and len(tried) == 8
    assert (
        "candidates were fixed weights (tuned) 18, uw_so 12, and 2 for each of the others"
        in " ".join(each.text for each in warnings(found))
    )
    assert headline(found)


def test_a_difference_in_one_task_is_told_of_that_task_alone(tmp_path):
    def scores(trial):
        random = np.random.default_rng([trial.seed, len(trial.method), len(trial.method_options)])
        a, b = 1 + 0.01 * random.normal(size=2)
        gain = 0.2 if trial.method == "uw" else 0.0
        return a, a, 10 * b * (1 + gain)

    found = fakes.study(tmp_path, scores, methods=["uw", "gls"])
    told = {(each.label, each.measure.task): each for each in per_task(found, "ew")}
    assert told["uw", "b"].shown() and told["uw", "b"].value == pytest.approx(20, abs=2)
    assert told["uw", "b"].wins == told["uw", "b"].runs == 5
    assert [key for key, each in told.items() if each.shown()] == [("uw", "b")]
    assert all(each.p_holm >= each.p for each in told.values())
