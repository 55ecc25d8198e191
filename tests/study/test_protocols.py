import fakes
import pytest

from equipoise.study import Candidate, arms
from equipoise.study.protocols import PROTOCOLS, final, tuning

TASKS = ("a", "b")


@pytest.mark.parametrize("methods", [[], ["uw"], ["ew"], ["stl", "rlw"]])
def test_single_task_equal_and_random_weights_are_in_every_study(methods):
    found = arms(fakes.spec(methods=methods), TASKS)
    labels = [arm.label for arm in found]
    assert labels[:5] == ["single-task a", "single-task b", "ew", "rlw", "rgw"]
    assert len(set(labels)) == len(labels)
    assert [arm.control for arm in found[:5]] == [True] * 5


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
    sizes = {arm.label: len(tuning(spec, arm)) for arm in arms(spec, TASKS)}
    assert set(sizes.values()) == {3}


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
    grid = tuning(spec, arms(spec, TASKS)[-1])
    tried = [trial.options() for trials in grid.values() for trial in trials]
    assert tried == [{"temperature": 1.0}, {"temperature": 2.0}, {"temperature": 4.0}]


def test_two_methods_under_one_name_are_refused():
    twice = [{"id": "uw_so", "label": "x"}, {"id": "gls", "label": "x"}]
    with pytest.raises(ValueError, match="two methods of the study are called 'x'"):
        arms(fakes.spec(methods=twice), TASKS)


def test_tuning_and_final_trials_never_share_a_seed():
    spec = fakes.spec(tuning_seeds=2)
    arm = arms(spec, TASKS)[2]
    tuned = {trial.seed for trials in tuning(spec, arm).values() for trial in trials}
    assert len(tuned) == 2
    assert not tuned & {trial.seed for trial in final(spec, arm, Candidate(0.1, "{}"))}


def test_single_task_trials_do_not_depend_on_settings_of_balancing():
    spec, other = fakes.spec(), fakes.spec(weight_sum="tasks", route="parameters")
    arm = arms(spec, TASKS)[0]
    assert tuning(spec, arm) == tuning(other, arm)
