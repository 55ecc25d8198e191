import fakes
import numpy as np
import pytest

from equipoise.study import Candidate, arms, fixed
from equipoise.study.fixed import FIXED, candidates_of
from equipoise.study.protocols import PROTOCOLS, final, tuning

TASKS = {"a": 1.0, "b": 0.01}


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
    chosen = [Candidate(0.1, "{}")] * len(spec.seeds)
    assert not tuned & {trial.seed for trial in final(spec, arm, chosen)}


def test_where_every_seed_tunes_for_itself_its_best_trial_is_its_final_one():
    spec = fakes.spec(tuning="per seed")
    arm = arms(spec, TASKS)[2]
    grid = tuning(spec, arm)
    assert [len(trials) for trials in grid.values()] == [5, 5, 5]
    chosen = list(grid)[:2] + list(grid)[:2] + [None]
    assert final(spec, arm, chosen) == [
        *(grid[c][seed] for seed, c in enumerate(chosen[:4])),
        None,
    ]


def test_fixed_weights_begin_with_those_that_make_the_losses_equal_and_go_on_at_random():
    made = candidates_of([1.0, 0.25, 0.04], [0.003, 0.01, 0.03])
    assert [rate for rate, _ in made] == [0.01, 0.03, 0.003]
    ratios = [np.array(options["weights"]) / options["weights"][0] for _, options in made]
    assert np.allclose(ratios, [[1, 4, 25], [1, 2, 5], [1, 1, 1]], rtol=0.01)
    many = candidates_of([1.0, 0.01], [10.0**-k for k in range(12)])
    assert len(many) == 12 and len({str(each) for each in many}) == 12
    later = candidates_of([1.0, 0.01], [0.1, 0.2])
    assert len(later) == 2


def test_random_fixed_weights_stay_near_the_family(monkeypatch):
    monkeypatch.setattr(fixed, "POWERS", (0.0,))
    made = candidates_of([1.0, 0.01], [0.1] * 200)[1:]
    ratios = np.array([options["weights"][1] / options["weights"][0] for _, options in made])
    assert 1 / 9.1 < ratios.min() < 1 and 100 < ratios.max() < 910


def test_single_task_trials_do_not_depend_on_settings_of_balancing():
    spec, other = fakes.spec(), fakes.spec(weight_sum="tasks", route="parameters")
    arm = arms(spec, TASKS)[0]
    assert tuning(spec, arm) == tuning(other, arm)
