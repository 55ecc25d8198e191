"""What is concluded from given numbers."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import fakes
import numpy as np
import pytest

from equipoise.study import Failure, Inline, Store, findings, headline, run, sentence, warnings
from equipoise.study.ends import _sides
from equipoise.study.fixed import FIXED
from equipoise.study.statistics import Estimate
from equipoise.study.values import Range
from equipoise.study.verdict import interval, signed
from equipoise.study.warnings import MAY_CHANGE

BEST_RATE = 0.01


def noise(trial, size=0.01):
    """Noise of a seed, the same under every method, and a little of the method's own."""
    shared = np.random.default_rng(trial.seed).normal()
    own = np.random.default_rng([trial.seed, len(trial.method), ord(trial.method[0])]).normal()
    return 1 + size * (shared + 0.1 * own)


def flat(trial):
    """Nothing matters but the learning rate: 0.01 is best."""
    worse = 1.0 if trial.learning_rate == BEST_RATE else 1.2
    return 1.0 * worse * noise(trial), 2.0 * worse * noise(trial), 5.0 / worse / noise(trial)


def with_gain(**gains):
    """As ``flat``, some methods better by a share of every metric."""

    def scores(trial):
        a, b, c = flat(trial)
        gain = gains.get(trial.method, 0.0)
        return a * (1 - gain), b * (1 - gain), c * (1 + gain)

    return scores


def texts(sentences):
    return " ".join(sentence.text for sentence in sentences)


def warned(found):
    return {warning.id: warning.text for warning in warnings(found)}


def test_a_method_that_gains_a_tenth_is_called_better_with_its_number(tmp_path):
    found = fakes.study(tmp_path, with_gain(gls=0.1), methods=["gls", "dwa"])
    said = sentence(found.arm("gls"), "ew")
    assert said.outcome == "better"
    assert said.text.startswith("gls − ew: +10.") and "over 5 seeds: better than ew" in said.text
    assert "Better than equal weights (ew): gls +10." in texts(headline(found))
    assert sentence(found.arm("dwa"), "ew").outcome == "undecided"
    assert "no difference shown" in sentence(found.arm("dwa"), "ew").text


def test_a_method_that_loses_a_tenth_is_called_worse(tmp_path):
    found = fakes.study(tmp_path, with_gain(gls=-0.1), methods=["gls"])
    assert sentence(found.arm("gls"), "ew").outcome == "worse"
    assert "Worse: gls −" in texts(headline(found))


def test_random_weights_that_beat_a_method_are_told(tmp_path):
    found = fakes.study(tmp_path, with_gain(rlw=0.05, gls=0.0), methods=["gls"])
    assert sentence(found.arm("gls"), "rlw").outcome == "worse"
    assert sentence(found.arm("rlw"), "ew").outcome == "better"


def test_where_nothing_differs_nothing_is_claimed(tmp_path):
    found = fakes.study(tmp_path, flat, methods=["gls", "dwa", "uw"])
    assert {sentence(each, "ew").outcome for each in found.arms if "ew" in each.against} == {
        "undecided"
    }
    assert "No difference to equal weights (ew) was shown for any of 5 methods." in texts(
        headline(found)
    )


def test_delta_m_is_zero_for_methods_that_equal_the_single_tasks(tmp_path):
    found = fakes.study(tmp_path, lambda trial: (1.0, 2.0, 5.0))
    ew = found.arm("ew")
    assert ew.delta.value == 0 and ew.flat == 0
    assert ew.changes == pytest.approx([0, 0, 0])


def test_the_reference_is_the_mean_of_the_single_task_runs(tmp_path):
    def scores(trial):
        return (1.0, 2.0, 4.0 + trial.seed % 5) if trial.method == "stl" else (1.0, 2.0, 9.0)

    ew = fakes.study(tmp_path, scores).arm("ew")
    assert ew.deltas == pytest.approx(np.full(5, 50 * (9 - 6) / 6))
    assert ew.delta.low < ew.delta.value < ew.delta.high


def test_delta_m_weighs_tasks_equally_and_the_flat_one_metrics(tmp_path):
    def scores(trial):
        return (1.0, 2.0, 5.0) if trial.method == "stl" else (1.0, 2.0, 5.5)

    ew = fakes.study(tmp_path, scores).arm("ew")
    assert ew.delta.value == pytest.approx(5)
    assert ew.flat == pytest.approx(10 / 3)


def test_the_learning_rate_with_the_best_validation_is_chosen(tmp_path):
    found = fakes.study(tmp_path, flat, methods=["gls"])
    assert {each.choice.candidate.learning_rate for each in found.all_arms} == {BEST_RATE}
    assert {trial.learning_rate for each in found.all_arms for trial in each.trials} == {BEST_RATE}


def test_the_choice_reads_validation_only(tmp_path):
    before = fakes.study(tmp_path, flat, methods=["gls"])
    with closing(sqlite3.connect(tmp_path / "fake.db")) as db, db:
        db.execute("UPDATE metric SET value = 1e6 * random() WHERE split != 'validation'")
    with Store(tmp_path / "fake.db") as store:
        after = findings(store)
    for one, other in zip(before.all_arms, after.all_arms, strict=True):
        assert one.choice == other.choice
    with closing(sqlite3.connect(tmp_path / "fake.db")) as db, db:
        db.execute(
            "UPDATE metric SET value = 100 - value WHERE split = 'validation' AND trial IN "
            "(SELECT id FROM trial WHERE method = 'gls' AND stage = 'tune')"
        )
    with Store(tmp_path / "fake.db") as store:
        assert findings(store).arm("gls").choice != before.arm("gls").choice


def test_each_task_chooses_its_own_learning_rate_for_its_single_task_network(tmp_path):
    def scores(trial):
        a, b, c = flat(trial)
        return (a, b, 20 * trial.learning_rate + 5) if trial.task == "b" else (a, b, c)

    found = fakes.study(tmp_path, scores)
    assert found.single["a"].choice.candidate.learning_rate == 0.01
    assert found.single["b"].choice.candidate.learning_rate == 0.1


def test_the_mean_rank_of_the_best_method_is_one(tmp_path):
    found = fakes.study(tmp_path, with_gain(gls=0.2), methods=["gls"])
    assert found.arm("gls").rank == 1
    assert sum(each.rank for each in found.arms) == pytest.approx(15)


def test_a_diverged_run_is_told_and_its_method_is_never_called_better(tmp_path):
    scores = with_gain(gls=0.1)

    def outcome(trial):
        done = fakes.result(trial, scores(trial))
        if trial.method == "gls" and trial.stage == "final" and trial.seed == 2:
            return replace(done, status="diverged", note="a is not finite", metrics=())
        return done

    run(fakes.spec(methods=["gls"]), tmp_path / "s.db", Inline(outcome))
    with Store(tmp_path / "s.db") as store:
        found = findings(store)
    gls = found.arm("gls")
    assert gls.diverged == [2] and not gls.complete and np.isnan(gls.rank)
    assert gls.against["ew"].runs == 4 and gls.against["ew"].low > 0
    assert sentence(gls, "ew").outcome == "undecided"
    assert "gls diverged in 1 of 5 final trials" in warned(found)["diverged"]


def test_a_learning_rate_that_diverged_is_not_chosen_and_is_told(tmp_path):
    def outcome(trial):
        done = fakes.result(trial, flat(trial))
        if trial.method == "ew" and trial.learning_rate == BEST_RATE:
            return replace(done, status="diverged", note="a is not finite")
        return done

    run(fakes.spec(), tmp_path / "s.db", Inline(outcome))
    with Store(tmp_path / "s.db") as store:
        found = findings(store)
    assert found.arm("ew").choice.candidate.learning_rate != BEST_RATE
    assert "not chosen: ew at 0.01" in warned(found)["diverged"]


def test_a_method_of_which_nothing_finished_stays_in_the_tables_and_is_told(tmp_path):
    def outcome(trial):
        if trial.method == "gls":
            return Failure("Traceback\nRuntimeError: no luck")
        return fakes.result(trial, flat(trial))

    run(fakes.spec(methods=["gls"]), tmp_path / "s.db", Inline(outcome))
    with Store(tmp_path / "s.db") as store:
        found = findings(store)
    assert found.arm("gls").choice.candidate is None
    assert sentence(found.arm("gls"), "ew").outcome == "untested"
    assert "no final trials, for: gls" in warned(found)["diverged"]
    assert "RuntimeError: no luck" in warned(found)["failed"]


@pytest.mark.parametrize(("rate", "side"), [(0.001, "lowest"), (0.1, "highest")])
def test_a_best_learning_rate_at_the_edge_is_told(tmp_path, rate, side):
    def scores(trial):
        worse = 1.0 if trial.learning_rate == rate else 1.2
        return 1.0 * worse, 2.0 * worse, 5.0 / worse

    assert f"was the {side} tried for" in warned(fakes.study(tmp_path, scores))["edge"]


@pytest.mark.parametrize(
    ("chosen", "lowest", "sides"),
    [
        ([1, 1, 3, 3], 1, []),
        ([1, 1, 1, 3], 1, ["lowest"]),
        ([0, 0, 0], 0, []),
        ([3, 3, 0], 0, ["highest"]),
    ],
)
def test_most_seeds_at_an_end_are_told_of_and_nothing_below_zero_is_asked_for(
    chosen, lowest, sides
):
    assert list(_sides(chosen, Range(low=lowest, high=3, log=lowest > 0), 0.0)) == sides


def test_runs_that_are_those_of_equal_weights_are_not_called_noisy(tmp_path):
    def scores(trial):
        by = trial.seed % 7 / 10 + (0.01 * trial.seed if trial.method == "gls" else 0)
        return 1 + by, 2 + by, 5 - by

    found = fakes.study(tmp_path, scores, methods=["gls", "dwa"])
    told = warned(found).get("noise", "")
    assert "gls" in told and "dwa" not in told
    assert sentence(found.arm("dwa"), "ew").text.endswith("the same runs in every seed")
    assert "no difference shown" in sentence(found.arm("gls"), "ew").text


def test_batches_larger_than_the_data_are_told(tmp_path):
    told = warned(fakes.study(tmp_path, flat, batch_size=10_000))["batches"]
    assert "Batches of 10000 were asked for" in told and "one step" in told
    assert "batches" not in warned(fakes.study(tmp_path / "b", flat))


def test_a_searched_option_at_the_edge_is_told(tmp_path):
    def scores(trial):
        a, b, c = flat(trial)
        worse = 1 + 0.01 * trial.options().get("temperature", 0)
        return a * worse, b * worse, c / worse

    search = {"temperature": [1.0, 2.0, 4.0]}
    method = {"id": "uw_so", "search": search, "learning_rates": [0.01]}
    told = warned(fakes.study(tmp_path, scores, methods=[method]))["edge"]
    assert told.startswith("The best temperature was the lowest tried for uw_so")


def test_a_best_learning_rate_in_the_middle_is_not(tmp_path):
    assert "edge" not in warned(fakes.study(tmp_path, flat))


@pytest.mark.parametrize(("seeds", "told"), [(2, True), (4, True), (5, False)])
def test_fewer_than_five_seeds_are_told(tmp_path, seeds, told):
    assert ("few-seeds" in warned(fakes.study(tmp_path, flat, seeds=seeds))) == told


def test_a_difference_inside_the_spread_of_seeds_is_told(tmp_path):
    loud = fakes.study(tmp_path, with_gain(gls=0.2, dwa=0.001), methods=["gls", "dwa"])
    assert "dwa" in warned(loud)["noise"] and "gls" not in warned(loud)["noise"]


def test_unequal_tuning_budgets_are_told(tmp_path):
    greedy = [{"id": "uw_so", "search": {"temperature": [1.0, 2.0]}}]
    found = fakes.study(tmp_path, flat, methods=greedy, allow_unequal_budgets=True)
    assert "uw_so 6" in warned(found)["budgets"]


def test_an_option_that_its_paper_tunes_is_told_when_left_alone(tmp_path):
    found = fakes.study(tmp_path, flat, methods=[{"id": "uw_so", "label": "soft"}])
    assert "temperature of soft" in warned(found)["untuned"]
    tuned = {"id": "uw_so", "label": "soft", "options": {"temperature": 3.0}}
    assert "untuned" not in warned(fakes.study(tmp_path / "tuned", flat, methods=[tuned]))


def test_a_method_whose_trials_all_went_to_an_option_is_named(tmp_path):
    searched = {
        "id": "uw_so",
        "label": "soft",
        "search": {"temperature": [1.0, 5.0, 20.0]},
        "learning_rates": [0.01],
    }
    told = warned(
        fakes.study(tmp_path / "one", flat, methods=[searched], allow_unequal_budgets=True)
    )
    assert "learning rate of soft was not tuned" in told["one-rate"]
    assert "one-rate" not in warned(fakes.study(tmp_path / "all", flat))


def test_runs_that_were_not_paired_are_found_out(tmp_path):
    def outcome(trial):
        done = fakes.result(trial, flat(trial))
        return replace(done, order="others") if (trial.method, trial.seed) == ("rlw", 1) else done

    run(fakes.spec(), tmp_path / "s.db", Inline(outcome))
    with Store(tmp_path / "s.db") as store:
        assert "seed 1 did not see the same batches" in warned(findings(store))["pairing"]


def test_narrow_learning_rates_under_sgd_with_the_papers_sums_are_told(tmp_path):
    narrow = {"optimizer": "sgd", "learning_rates": [0.01, 0.012, 0.015]}
    assert "sgd" in warned(fakes.study(tmp_path, flat, **narrow))
    tmp = tmp_path / "other"
    assert "sgd" not in warned(fakes.study(tmp, flat, **narrow, weight_sum="tasks"))


def test_half_a_study_can_be_looked_at(tmp_path):
    class Stops:
        def run(self, trials):
            for trial in trials[:4]:
                yield trial, fakes.result(trial, flat(trial))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(fakes.spec(), tmp_path / "s.db", Stops())
    with Store(tmp_path / "s.db") as store:
        found = findings(store)
    told = warned(found)
    assert told["unfinished"].startswith(
        "The study is not finished: 30 of 30 final runs are missing"
    )
    assert (
        "of a, b: Delta_m will change, and is against equal weights meanwhile" in told["unfinished"]
    )
    # What the rest may change is not said before.
    assert not set(told) & set(MAY_CHANGE)
    said = headline(found)
    assert "not finished" in said[0].text and "Nothing can be said yet" in said[1].text


def test_what_is_known_of_a_study_that_lacks_one_run_comes_after_what_is_missing(tmp_path):
    class Stops:
        def run(self, trials):
            for trial in trials:
                if (trial.method, trial.seed, trial.stage) == ("rgw", 4, "final"):
                    raise KeyboardInterrupt
                yield trial, fakes.result(trial, with_gain(gls=0.1)(trial))

    with pytest.raises(KeyboardInterrupt):
        run(fakes.spec(methods=["gls"]), tmp_path / "s.db", Stops())
    with Store(tmp_path / "s.db") as store:
        found = findings(store)
    said = headline(found)
    assert said[0].text.startswith("The study is not finished: 2 of 35 final runs are missing.")
    assert "Better than tuned fixed weights: gls" not in said[0].text


def test_cost_is_a_ratio_to_equal_weights_of_the_same_seed(tmp_path):
    def outcome(trial):
        slow = 1 + trial.seed % 5  # the machine gets slower and slower
        return fakes.result(trial, flat(trial), step_ms=slow * (3 if trial.method == "gls" else 1))

    run(fakes.spec(methods=["gls"]), tmp_path / "s.db", Inline(outcome))
    with Store(tmp_path / "s.db") as store:
        found = findings(store)
    assert found.arm("gls").spent.ratio == pytest.approx(3)
    assert found.arm("ew").spent.ratio == pytest.approx(1)


def test_comparisons_with_all_baselines_are_one_family_and_baselines_meet_once(tmp_path):
    found = fakes.study(tmp_path, flat, methods=["gls"])
    met = {b: [e.arm.label for e in found.arms if b in e.against] for b in found.baselines}
    assert met == {
        FIXED: ["ew", "rlw", "rgw", "gls"],
        "ew": ["rlw", "rgw", "gls"],
        "rlw": ["rgw", "gls"],
    }
    gaps = [gap for each in found.arms for gap in each.against.values()]
    smallest = min([*gaps, found.joint], key=lambda gap: gap.p)
    assert len(gaps) == 9
    # More than Bonferroni's ten: the variances are borrowed from few arms.
    assert smallest.p_holm == 1 or smallest.p_holm > 10 * smallest.p


def sharing(by, lost=()):
    """Single-task networks are worse by this share, in units of a seed's noise that is not shared."""

    def outcome(trial):
        a, b, c = flat(trial)
        random = np.random.default_rng([trial.seed, trial.task is None])
        own = 1 + 0.01 * (random.normal() - (by if trial.task is None else 0.0))
        done = fakes.result(trial, (a * own, b * own, c / own))
        gone = trial.task is None and trial.seed in lost
        return replace(done, status="diverged", note="lost", metrics=()) if gone else done

    return outcome


@pytest.mark.parametrize(("by", "said"), [(1.2, "undecided"), (9, "better"), (-9, "worse")])
def test_one_network_for_all_tasks_is_held_to_the_level_of_the_whole_verdict(tmp_path, by, said):
    path = tmp_path / "s.db"
    run(fakes.spec(methods=["gls"], tuning="per seed"), path, Inline(sharing(by)))
    with Store(path) as store:
        found = findings(store)
    last = headline(found)[-1]
    assert last.text.startswith("One network for all tasks") and last.outcome == said
    assert interval(found.joint) in last.text
    assert found.joint.value == pytest.approx(found.arm("ew").delta.value)
    if said == "undecided":
        # Alone, it would have been shown.
        assert found.joint.p < 0.05 < found.joint.p_holm and found.arm("ew").delta.low > 0


def test_equal_weights_that_lost_a_run_are_not_called_better_than_single_tasks(tmp_path):
    path = tmp_path / "s.db"
    run(fakes.spec(methods=["gls"], tuning="per seed"), path, Inline(sharing(9, lost=[2])))
    with Store(path) as store:
        found = findings(store)
    assert found.joint.runs == 4 and found.joint.low > 0
    assert headline(found)[-1].outcome == "undecided"


def test_noise_that_a_run_shares_with_its_single_task_networks_does_not_blur_delta_m(tmp_path):
    delta = fakes.study(tmp_path, flat).arm("ew").delta
    spread = fakes.study(tmp_path, flat).arm("ew").deltas.std()
    assert delta.high - delta.low < spread


def test_the_baselines_are_those_asked_for_in_their_order(tmp_path):
    fakes.study(tmp_path, with_gain(gls=0.1), methods=["gls", "dwa"])
    with Store(tmp_path / "fake.db") as store:
        found = findings(store, baselines=["dwa", "no such arm", "ew"])
    assert found.baselines == ["dwa", "ew"]
    assert "dwa" not in found.arm("dwa").against
    assert headline(found)[0].text.startswith("Better than dwa: gls +")


def test_random_weights_are_a_baseline_under_every_protocol(tmp_path):
    found = fakes.study(tmp_path, flat, protocol="litmus_distributions", methods=["gls"])
    assert found.baselines == [FIXED, "ew", "rlw (distribution=normal)"]
    assert set(found.arm("gls").against) == set(found.baselines)


def test_no_difference_shown_comes_with_what_could_have_been(tmp_path):
    found = fakes.study(tmp_path, flat, methods=["gls"])
    gap = found.arm("gls").against["ew"]
    assert gap.detectable > 0
    said = sentence(found.arm("gls"), "ew").text
    assert f"; {gap.detectable:.1f} would have been shown in 80 % of such studies" in said


def study_where_single_task_diverges(tmp_path, seeds):
    def outcome(trial):
        good = fakes.result(trial, flat(trial))
        if trial.task == "b" and trial.seed in seeds:
            return replace(good, status="diverged", note="the loss is not finite", metrics=())
        return good

    path = tmp_path / "s.db"
    run(fakes.spec(methods=["gls"], tuning="per seed"), path, Inline(outcome))
    with Store(path) as store:
        return findings(store)


def test_a_single_task_network_that_diverges_takes_no_method_with_it(tmp_path):
    found = study_where_single_task_diverges(tmp_path, {1, 3})
    assert found.reference == "stl" and found.arm("gls").complete
    assert np.isfinite(found.arm("gls").against["ew"].value)


def test_where_no_single_task_network_finished_equal_weights_stand_in_and_are_told(tmp_path):
    found = study_where_single_task_diverges(tmp_path, set(range(5)))
    assert found.reference == "ew" and found.arm("gls").complete
    assert found.arm("ew").delta.value == pytest.approx(0, abs=1e-9)
    assert found.joint is None and headline(found)[-1].outcome == "untested"
    assert "No single-task network of b finished" in warned(found)["stand-in"]


def test_two_seeds_decide_nothing(tmp_path):
    found = fakes.study(tmp_path, with_gain(gls=0.3), methods=["gls"], seeds=2)
    assert sentence(found.arm("gls"), "ew").outcome == "untested"
    assert "no method has three finished runs" in texts(headline(found))


def test_a_metric_near_zero_is_compared_in_its_own_units_and_told(tmp_path):
    def scores(trial):
        return 1.0, 2.0, 0.05 * np.sin(trial.seed) + 0.3 * (trial.method != "stl")

    found = fakes.study(tmp_path, scores)
    assert found.plain.tolist() == [False, False, True]
    assert found.arm("ew").changes[2] == pytest.approx(0.3)
    assert found.arm("ew").delta.value == pytest.approx(0.15)
    assert "score of b" in warned(found)["near-zero"]
    assert "near_zero of the study" in warned(found)["near-zero"]
    assert "near-zero" not in warned(fakes.study(tmp_path / "other", flat))


def test_a_study_says_itself_what_is_near_zero(tmp_path):
    def scores(trial):
        return 1.0, 2.0, 0.05 * np.sin(trial.seed) + 0.3 * (trial.method != "stl")

    percent = fakes.study(tmp_path / "a", scores, near_zero={"b/score": 0})
    assert not percent.plain.any() and percent.arm("ew").changes[2] > 1000
    plain = fakes.study(tmp_path / "b", flat, near_zero={"a/mae": 100})
    assert plain.plain.tolist() == [False, True, False]


@pytest.mark.parametrize("seeds", [2, 3])
def test_with_few_seeds_all_arms_say_how_far_runs_spread(tmp_path, seeds):
    def scores(trial):
        # The runs of the single-task networks happen to agree; those of all others do not.
        return 1.0, 2.0, 0.1 + (trial.method != "stl") * 0.1 * (-1) ** trial.seed

    assert fakes.study(tmp_path, scores, seeds=seeds).plain.tolist() == [False, False, True]


def test_a_metric_that_is_none_is_named_before_the_first_trial(tmp_path):
    with pytest.raises(
        ValueError, match=r"near_zero names 'b/r2', which is no metric.*: a/rmse, a/mae"
    ):
        fakes.study(tmp_path, flat, near_zero={"b/r2": 0.1})


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.42, -0.21, 1.04, 5), "+0.4 [−0.2, 1.0]"),
        (Estimate(-3.0, -4.0, -2.0, 5), "−3.0 [−4.0, −2.0]"),
        (Estimate(0.01, -0.04, 0.04, 5), "+0.01 [−0.04, 0.04]"),
        (Estimate(-0.01, -0.3, 0.3, 5), "0.0 [−0.3, 0.3]"),
        (Estimate(1.0, np.nan, np.nan, 1), "+1.0"),
    ],
)
def test_numbers_are_written_with_a_real_minus_and_without_negative_zero(estimate, text):
    assert interval(estimate) == text


def test_a_number_that_is_none_is_not_written_as_one():
    assert signed(float("nan")) == "n/a"
