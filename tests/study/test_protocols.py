from itertools import islice

import fakes
import numpy as np
import pytest

from equipoise.study import PROTOCOLS, arms, fixed, plans
from equipoise.study.fixed import FIXED
from equipoise.study.selection import Measurements
from equipoise.study.spaces import Axes

TASKS = {"a": 1.0, "b": 0.01}
TOLD = {
    "measures": [
        {"task": task, "metric": "rmse", "higher_is_better": False, "unit": ""} for task in TASKS
    ],
    "first_losses": TASKS,
}


def planned(spec, found=None):
    return plans(spec, arms(spec, TASKS), found or Measurements(TOLD))


def tuning(spec, label):
    """The candidates of an arm with their trials of all seeds."""
    tried = planned(spec)[label].tried
    return {each: [trial for own in tried for trial in own[each]] for each in tried[0]}


def family(losses, rates):
    made = fixed.family(losses, Axes(rates))
    return [(each.learning_rate, {"weights": each.option("weights")}) for each in made]


@pytest.mark.parametrize("methods", [[], ["uw"], ["ew"], ["stl", "rlw"]])
def test_single_task_fixed_equal_and_random_weights_are_in_every_study(methods):
    found = arms(fakes.spec(methods=methods), TASKS)
    labels = [arm.label for arm in found]
    assert labels[:6] == ["single-task a", "single-task b", FIXED, "ew", "rlw", "rgw"]
    assert len(set(labels)) == len(labels)
    assert [arm.control for arm in found[:6]] == [True] * 6


def test_litmus_distributions_tries_five_random_weightings_of_losses_and_of_gradients():
    found = arms(fakes.spec(protocol="litmus_distributions"), TASKS)
    assert [arm.method for arm in found].count("rlw") == 5
    assert [arm.method for arm in found].count("rgw") == 5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_has_the_controls(protocol):
    assert {"ew", "rlw", "rgw"} <= {method for method, _ in PROTOCOLS[protocol].controls}


def test_every_arm_gets_the_same_number_of_tuning_trials():
    spec = fakes.spec(
        methods=[
            "uw",
            {"id": "uw_so", "search": {"temperature": [1.0, 2.0, 4.0]}, "learning_rates": [0.1]},
        ]
    )
    assert {len(plan.tried[0]) for plan in planned(spec).values()} == {3}


def test_a_larger_tuning_budget_is_refused_unless_asked_for():
    greedy = [{"id": "uw_so", "search": {"temperature": [1.0, 2.0]}}]
    with pytest.raises(ValueError, match=r"'uw_so' would get 6 tuning trials and the others 3"):
        arms(fakes.spec(methods=greedy), TASKS)
    assert arms(fakes.spec(methods=greedy, allow_unequal_budgets=True), TASKS)


def test_searched_options_reach_the_trials():
    spec = fakes.spec(
        methods=[
            {"id": "uw_so", "search": {"temperature": [1.0, 2.0, 4.0]}, "learning_rates": [0.1]}
        ]
    )
    grid = tuning(spec, "uw_so")
    tried = [trial.options() for trials in grid.values() for trial in trials]
    assert tried == [{"temperature": 1.0}, {"temperature": 2.0}, {"temperature": 4.0}]


def test_two_methods_under_one_name_are_refused():
    twice = [{"id": "uw_so", "label": "x"}, {"id": "gls", "label": "x"}]
    with pytest.raises(ValueError, match="two methods of the study are called 'x'"):
        arms(fakes.spec(methods=twice), TASKS)


def test_tuning_trials_never_have_a_seed_of_the_comparison():
    spec = fakes.spec(tuning_seeds=2)
    tuned = {trial.seed for trials in tuning(spec, FIXED).values() for trial in trials}
    assert len(tuned) == 2 and not tuned & set(spec.seeds)


def test_where_every_seed_tunes_for_itself_its_best_trial_is_its_final_one(tmp_path):
    def scores(trial):
        # Even seeds find one rate best, odd ones another.
        best = 0.01 if trial.seed % 2 else 0.1
        worse = 1.0 if trial.learning_rate == best else 1.2
        return worse, worse, 5.0 / worse

    found = fakes.study(tmp_path, scores, tuning="per seed")
    plan = found.arm("ew").plan
    assert [len(own) for own in plan.tried] == [3] * 5
    for own, chosen, final in zip(plan.tried, plan.choice.by_seed, plan.finals, strict=True):
        assert own[chosen] == (final,)
    assert [final.learning_rate for final in plan.finals] == [0.1, 0.01, 0.1, 0.01, 0.1]


def test_fixed_weights_begin_with_those_that_make_the_losses_equal_and_go_on_at_random():
    made = family([1.0, 0.25, 0.04], [0.003, 0.01, 0.03])
    assert [rate for rate, _ in made] == [0.01, 0.03, 0.003]
    ratios = [np.array(options["weights"]) / options["weights"][0] for _, options in made]
    assert np.allclose(ratios, [[1, 4, 25], [1, 2, 5], [1, 1, 1]], rtol=0.01)
    many = family([1.0, 0.01], [10.0**-k for k in range(12)])
    assert len(many) == 12 and len({str(each) for each in many}) == 12
    later = family([1.0, 0.01], [0.1, 0.2])
    assert len(later) == 2


def test_random_fixed_weights_stay_near_the_family():
    drawn = list(islice(fixed.weights_drawn([1.0, 0.01], np.random.default_rng(0)), 3, 203))
    ratios = np.array([second / first for first, second in drawn])
    assert 1 / 9.1 < ratios.min() < 1 and 100 < ratios.max() < 910


def test_single_task_trials_do_not_depend_on_settings_of_balancing():
    spec, other = fakes.spec(), fakes.spec(weight_sum="tasks", route="parameters")
    assert tuning(spec, "single-task a") == tuning(other, "single-task a")
