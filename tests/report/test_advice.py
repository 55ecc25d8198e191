"""What to do next follows from what was found, and says no more."""

from dataclasses import replace

import fakes
import numpy as np
import pytest

from equipoise.study import Failure, Inline, Store, advice, findings, run
from equipoise.study.fixed import FIXED
from equipoise.study.statistics import Estimate
from equipoise.study.trial import GradientRow
from equipoise.study.verdict import interval


def study(folder, gains, gradients=(), best=0.01, noise=0.01, **changes):
    """Findings of a study where methods gain, under these gradients, best at one learning rate."""

    def outcome(trial):
        random = np.random.default_rng([trial.seed, len(trial.method), sum(map(ord, trial.method))])
        level = 1 + noise * random.normal() - gains.get(trial.method, 0.0)
        level *= 1.0 if trial.learning_rate == best else 1.3
        rows = tuple(GradientRow(1, *row) for row in gradients)
        return replace(fakes.result(trial, (level, 2 * level, 5 / level)), gradients=rows)

    run(fakes.spec(**changes), folder / "s.db", Inline(outcome))
    with Store(folder / "s.db") as store:
        return findings(store)


def test_a_method_that_was_shown_to_be_better_comes_first(tmp_path):
    said = advice(study(tmp_path, {"gls": 0.2}, methods=["gls", "dwa"]))
    assert said[0] == (
        "Take `gls`: shown to be better than tuned fixed weights, in about the time of equal weights."
    )


def test_fixed_weights_are_advised_with_their_values_where_no_method_beats_them(tmp_path):
    said = advice(study(tmp_path, {"scalarization": 0.2}, methods=["gls"]))
    assert said[0].startswith("Take fixed weights, `a` ") and "`b` " in said[0]


def test_where_nothing_differs_equal_weights_are_advised_and_seeds_are_counted(tmp_path):
    said = advice(study(tmp_path, {}, methods=["gls"], noise=0.03))
    assert said[0].startswith("Take equal weights for now")
    assert any("more seeds would show a difference of" in text for text in said)


def test_gradients_far_apart_are_scale_and_name_the_tasks(tmp_path):
    rows = [("a", "a", 250.0), ("b", "b", 2.5), ("a", "b", 0.01)]
    said = " ".join(advice(study(tmp_path, {}, rows)))
    assert "`a` has gradients 100 times larger than `b`" in said and "weight it 1/100" in said
    assert "near zero: a matter of scale, not of conflict" in said


@pytest.mark.parametrize("cosine", [-0.9, 0.0, 0.9])
def test_a_cosine_alone_is_no_reason_for_advice(tmp_path, cosine):
    rows = [("a", "a", 2.0), ("b", "b", 1.0), ("a", "b", cosine)]
    assert not any(
        word in text for text in advice(study(tmp_path, {}, rows)) for word in ("osine", "onflict")
    )


@pytest.mark.parametrize(("best", "way"), [(0.001, "downwards to 0.0001"), (0.1, "upwards to 1")])
def test_a_best_learning_rate_at_the_edge_is_advised_to_be_passed(tmp_path, best, way):
    said = " ".join(advice(study(tmp_path, {}, best=best)))
    assert f"Widen the learning rates {way}" in said


def test_where_every_run_diverged_no_learning_rate_was_the_best(tmp_path):
    def outcome(trial):
        done = fakes.result(trial, (1.0, 2.0, 5.0))
        return done if trial.task else replace(done, status="diverged", metrics=())

    said = " ".join(advice(fakes.ran(tmp_path, outcome)))
    assert "arms finished with none of those tried" in said and "the best for 9" not in said


def test_a_task_is_to_leave_only_where_sharing_was_shown_to_cost(tmp_path):
    """Equal weights are worse in every seed, by very different amounts: too little for the family."""

    def scores(trial):
        lost = 0.0 if trial.task else {0: 0.02, 1: 0.5, 2: 0.04, 3: 0.4, 4: 0.03}[trial.seed % 5]
        return 1 + lost, 2 + lost, 5 - lost

    found = fakes.study(tmp_path, scores, tuning="per seed")
    assert found.joint.value < 0 and not found.joint.shown()
    assert not any("network of its own" in text for text in advice(found))
    sure = study(tmp_path / "sure", {"stl": 0.3}, noise=0.001)
    assert any("network of its own" in text for text in advice(sure))


def test_half_a_study_is_to_be_finished_first(tmp_path):
    class Stops:
        def run(self, trials):
            for trial in trials[:3]:
                yield trial, Failure("Traceback\nRuntimeError: no")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(fakes.spec(), tmp_path / "half.db", Stops())
    with Store(tmp_path / "half.db") as half:
        assert advice(findings(half)) == [
            "Let the study finish first: 25 of 30 final runs are missing. The same command goes on where it "
            "stopped."
        ]


def test_half_a_study_is_advised_on_what_the_rest_cannot_change(tmp_path):
    class Stops:
        def run(self, trials):
            for trial in trials:
                if trial.method == "rgw":
                    raise KeyboardInterrupt
                rows = tuple(GradientRow(1, *row) for row in [("a", "a", 250.0), ("b", "b", 2.5)])
                yield trial, replace(fakes.result(trial, (1.0, 2.0, 5.0)), gradients=rows)

    with pytest.raises(KeyboardInterrupt):
        run(fakes.spec(tuning="per seed"), tmp_path / "half.db", Stops())
    with Store(tmp_path / "half.db") as half:
        found = findings(half)
        # Whether equal weights had run at every seed depends on the order, which is seed by seed.
        assert not found.arm("ew").complete and len(advice(found)) == 1


def test_equal_weights_are_not_compared_with_themselves(tmp_path):
    said = advice(study(tmp_path, {"ew": 0.2}, methods=["gls"]))
    assert said[0] == "Take equal weights: shown to be better than tuned fixed weights."


def test_what_most_seeds_chose_is_not_told_of_all(tmp_path):
    def outcome(trial):
        level = 1.0 + 0.01 * np.random.default_rng([trial.seed, len(trial.method)]).normal()
        if trial.method == "scalarization":
            level *= 0.7 if (trial.learning_rate == 0.001) == (trial.seed < 3) else 0.75
            level *= 1.2 if trial.learning_rate == 0.01 else 1.0
        return fakes.result(trial, (level, 2 * level, 5 / level))

    run(fakes.spec(tuning="per seed"), tmp_path / "s.db", Inline(outcome))
    with Store(tmp_path / "s.db") as store:
        said = advice(findings(store))
    assert "(the choice of 3 of 5 seeds)" in said[0]


def test_advice_is_at_most_four_sentences(tmp_path):
    rows = [("a", "a", 250.0), ("b", "b", 2.5), ("a", "b", 0.01)]
    found = study(tmp_path, {"stl": 0.3}, rows, best=0.1, noise=0.03, methods=["gls", "dwa"])
    assert FIXED in found.baselines
    assert len(advice(found)) == 4


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(-2.13, -4.22, -0.04, 5), "−2.13 [−4.22, −0.04]"),
        (Estimate(2.0, 0.004, 4.0, 5), "+2.000 [0.004, 4.000]"),
        (Estimate(-2.1, -4.2, -0.06, 5), "−2.1 [−4.2, −0.1]"),
        (Estimate(2.0, -0.04, 4.0, 5), "+2.0 [0.0, 4.0]"),
        (Estimate(-2.0, -4.0, 0.0, 5), "−2.0 [−4.0, 0.0]"),
        (Estimate(-2.1, -4.2, -3e-7, 5), "−2.1 [−4.2, −3e-07]"),
        (Estimate(0.004, -0.02, 0.03, 5), "0.00 [−0.02, 0.03]"),
    ],
)
def test_a_bound_that_does_not_reach_zero_is_not_rounded_to_it(estimate, text):
    assert interval(estimate) == text
