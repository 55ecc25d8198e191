"""Wrong arguments of compare, Objective and a study's keys: one sentence that names what to mend."""

import sys

import odd
import pytest
import tiny
from fakes import spec

from equipoise.study import Inline, Objective, compare, run
from equipoise.study.preparing import prepared
from equipoise.study.train import run as train

TINY = f"{tiny.HERE}:tiny"
GOOD = {"learning_rates": [0.01], "epochs": 1, "batch_size": 8}


def compared(problem=TINY, methods=("uw",), **changes):
    return compare(problem, methods, **{**GOOD, "executor": Inline(), **changes})


def objective(problem=TINY, methods=("uw",), **changes):
    pytest.importorskip("optuna")
    return Objective(problem, methods, **{**GOOD, **changes})


# What a study's keys say of both.
SHARED = [
    ({"methods": "uw"}, r"methods is a list of ids, such as \['uw'\]; got 'uw'"),
    ({"methods": None}, "methods is a list of ids.*got None"),
    ({"methods": []}, r"methods is a list of ids.*got \[\]; for the baselines alone give \['ew'\]"),
    ({"methods": [None]}, r"methods\[0\](.id)?': give (an id, or a table with an id|text in quotes)"),
    ({"methods": ["uw_sso"]}, "uw_so"),
    ({"learning_rates": []}, "'learning_rates': .*at least 1"),
    ({"learning_rates": "0.1"}, "'learning_rates': give a list"),
    ({"learning_rates": True}, "'learning_rates': give a list"),
    ({"learning_rates": [True]}, r"'learning_rates\[0\]': give a number"),
    ({"learning_rates": {"low": 1}}, "'learning_rates.high' is missing"),
    ({"learning_rates": {"low": 1, "hi": 2}}, "'learning_rates.hi' is not known; did you mean 'high'"),
    ({"batch_size": 0}, "'batch_size': it should be greater than or equal to 1"),
    ({"epochs": 0}, "'epochs': it should be greater than or equal to 1"),
    ({"epochs": True}, "'epochs': give a number"),
    ({"epochs": 1.5}, "'epochs': give a whole number"),
    ({"epochs": None}, "'epochs': give a whole number"),
]  # fmt: skip


@pytest.mark.parametrize("of", [compared, objective])
@pytest.mark.parametrize(("wrong", "message"), SHARED)
def test_a_wrong_argument_is_named(of, wrong, message):
    with pytest.raises(ValueError, match=message):
        of(**wrong)


# The same, among the arguments of one and the settings of the other.
SETTINGS = [
    ({"problem_options": 3}, "'problem_options': give a table of names and values"),
    ({"problem_options": {"row": 3}}, "does not take these options.*it takes: .*rows"),
    ({"problem_options": {"log": object()}}, r"'problem_options.log': give text, finite numbers"),
    ({"device": "gpu"}, "device = 'gpu' is none that torch knows; take 'cpu', 'cuda'"),
    ({"device": "cuda:77"}, r"device = 'cuda:77' cannot be used on this machine \(.*\); take 'cpu'"),
    ({"device": "meta"}, r"device = 'meta' cannot be used .*it holds no numbers"),
    ({"device": 0}, "'device': give text in quotes"),
    ({"weight_decay": -1}, "'weight_decay': it should be greater than or equal to 0"),
    ({"optimizer": "adam"}, "there is no optimizer 'adam'; known: adamw, sgd"),
    ({"route": "feature"}, "'route': it should be 'auto', 'losses', 'parameters' or 'features'"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "message"), SETTINGS)
def test_a_wrong_setting_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        compared(**wrong)
    with pytest.raises(ValueError, match=message):
        objective(settings=wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": 0}, "'seeds': give a number of seeds above 0, or a list"),
        ({"seeds": True}, "'seeds': give a number"),
        ({"seeds": "3"}, "'seeds': give a number"),
        ({"seeds": [-1]}, r"'seeds\[0\]': it should be greater than or equal to 0"),
        ({"executor": "local"}, r"executor is an object such as Local\(\) or Inline\(\); got 'local'"),
        ({"listener": print}, "listener has methods stage and finished"),
        ({"out": 3}, "out is the path of a file"),
        ({"checkpoint": "a/accuracy"}, "checkpoint = 'a/accuracy' is no criterion: 'last', 'loss', .*a/rmse"),
        ({"methods": [{"id": "uw_so", "options": {"temperature": "hot"}}]}, "uw_so.*is of a wrong kind"),
        ({"methods": [f"{odd.HERE}:Cardless"]}, "'Cardless': the class 'Cardless' has no card"),
        ({"methods": [odd.Half]}, r"methods\[0\]': give an id, or a table with an id"),
    ],
)  # fmt: skip
def test_a_wrong_argument_of_compare_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        compared(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"by": "loss/a"}, "by = 'loss/a' is no criterion: 'loss', or one of a/rmse, a/mae, b/score"),
        ({"by": "last"}, "by = 'last' is no criterion"),
        ({"settings": {"weight_decays": [0.1]}}, "no key 'weight_decays'; did you mean 'weight_decay'"),
        ({"settings": {"stage": "final"}}, "settings has no key 'stage'; known: problem_options, arguments"),
        ({"settings": 3}, "settings is a mapping"),
        ({"search": {"temperature": 3.0}, "methods": ["uw_so"]}, "give a list.*belongs into options"),
        ({"search": {"temperature": []}, "methods": ["uw_so"]}, "search.temperature': .*at least 1"),
        ({"search": 3}, "search': give a table of names and values"),
        ({"search": {"temperature": [1.0, -1.0]}, "methods": ["uw_so"]}, "method 'uw_so': .*temperature"),
        ({"search": {"warmth": [1.0]}, "methods": ["uw_so"]}, "method 'uw_so': .*warmth"),
        ({"search": {"weights": [[1, 1]]}, "methods": ["scalarization"]}, "no effect on 'scalarization'"),
        ({"methods": ["stl"]}, "'stl' learns one task"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"methods": [f"{odd.HERE}:Cardless"]}, "the class 'Cardless' has no card"),
    ],
)  # fmt: skip
def test_a_wrong_argument_of_an_objective_is_told_before_any_trial(wrong, message):
    with pytest.raises(ValueError, match=message):
        objective(**wrong)


def test_one_learning_rate_may_be_a_number():
    assert objective(learning_rates=0.1)._spec.learning_rates == [0.1]
    assert spec(learning_rates=0.1, weight_decays=0.2).weight_decays == [0.2]


def test_an_objective_takes_options_of_the_problem_and_of_the_balancer():
    optuna = pytest.importorskip("optuna")
    options = {"problem_options": {"rows": 16}, "arguments": {"update_every": 2}}
    search = optuna.create_study(direction="maximize")
    search.optimize(objective(settings={**options, "weight_decay": 0.1}), n_trials=1)
    assert search.trials[0].state.name == "COMPLETE"


def test_an_objective_without_optuna_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r'needs Optuna: pip install "equipoise\[tune\]"'):
        Objective(TINY, ["uw"], **GOOD)


def test_an_objective_is_called_by_optuna():
    with pytest.raises(ValueError, match=r"called with a trial of Optuna, by study.optimize"):
        objective()(3)


def test_weights_that_are_not_finite_end_a_run_as_diverged(tmp_path):
    (trial,) = {
        trial
        for setting in prepared(spec(methods=["uw"], learning_rates=[1e3], epochs=5))
        for trial in next(iter(setting.plans()["uw"].tried[0].values()))
    }
    ended = train(trial)
    assert ended.status == "diverged"
    assert ended.note.startswith("the weights of 'uw' are not finite") and "epoch 1" in ended.note
    optuna = pytest.importorskip("optuna")
    search = optuna.create_study(direction="maximize")
    search.optimize(objective(learning_rates=1e3, epochs=5), n_trials=1)
    assert search.trials[0].state.name == "PRUNED"


def test_a_device_that_is_not_there_is_told_before_a_study_begins(tmp_path):
    with pytest.raises(ValueError, match="device = 'cuda:77' cannot be used on this machine"):
        run(spec(device="cuda:77"), tmp_path / "s.db", Inline())
    assert not (tmp_path / "s.db").exists()
