import sys

import fakes
import pytest

from equipoise.study import MethodSpec, Spec, Store, arms, load, parse, study
from equipoise.study.selection import study_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LEAST = {"problem": "digits", "learning_rates": [0.1], "epochs": 1, "batch_size": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"learning_rate": [0.1]},
            r"key 'learning_rate' is not known; did you mean 'learning_rates'",
        ),
        ({"epochs": 0}, r"key 'epochs': .*greater than or equal to 1.*given: 0"),
        ({"epochs": "many"}, r"key 'epochs'"),
        ({"learning_rates": []}, r"key 'learning_rates'"),
        ({"learning_rates": [0.1, -1]}, r"key 'learning_rates\[1\]'"),
        ({"learning_rates": [0.1, 0.1]}, r"key 'learning_rates'.*repeats"),
        ({"seeds": []}, r"key 'seeds'"),
        ({"seeds": [1, 1]}, r"key 'seeds'.*repeats"),
        ({"optimizer": "adam"}, r"key 'optimizer'.*known: adamw, sgd"),
        ({"protocol": "litmos"}, r"key 'protocol'.*known: litmus"),
        ({"methods": ["uw_sso"]}, r"key 'methods\[0\].id'.*uw_so"),
        (
            {"methods": [{"id": "uw", "option": {}}]},
            r"methods\[0\].option' is not known; did you mean",
        ),
        ({"methods": [{"id": "uw", "search": {"kind": []}}]}, r"methods\[0\].search.kind'"),
    ],
)
def test_a_mistake_names_its_key(change, message):
    with pytest.raises(ValueError, match=message):
        parse({**LEAST, **change})


@pytest.mark.parametrize("key", LEAST)
def test_a_missing_key_is_named(key):
    with pytest.raises(ValueError, match=f"key '{key}' is missing"):
        parse({name: value for name, value in LEAST.items() if name != key})


def test_a_number_of_seeds_counts_from_zero():
    assert parse({**LEAST, "seeds": 3}).seeds == [0, 1, 2]
    assert parse({**LEAST, "seeds": [7, 9]}).seeds == [7, 9]


def test_methods_may_be_ids_or_tables():
    spec = parse({**LEAST, "methods": ["uw", {"id": "uw_so", "options": {"temperature": 2}}]})
    assert spec.methods == [MethodSpec(id="uw"), MethodSpec(id="uw_so", options={"temperature": 2})]


def test_the_toml_of_a_study_reads_back_as_the_same_study():
    spec = parse(
        {
            **LEAST,
            "problem_options": {"width": 32},
            "name": 'a "quoted" name',
            "weight_decay": 1e-5,
            "near_zero": {"left/accuracy": 0.1, "reconstruct/rmse": 0},
            "allow_unequal_budgets": True,
            "methods": [
                "uw",
                {"id": "uw_so", "search": {"temperature": [1.0, 2.5]}, "label": "so"},
            ],
        }
    )
    assert parse(tomllib.loads(spec.to_toml())) == spec


def test_the_study_that_ships_survives_its_toml():
    spec = study("digits")
    assert parse(tomllib.loads(spec.to_toml())) == spec
    assert len(spec.methods) >= 10 and len(spec.seeds) == 5


def test_a_study_is_read_from_a_file(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text('problem = "digits"\nlearning_rates = [0.1]\nepochs = 1\nbatch_size = 2\n')
    assert load(file) == Spec(**LEAST)


def test_a_file_that_is_not_toml_is_named(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text("epochs == 3")
    with pytest.raises(ValueError, match=r"study.toml: not valid TOML"):
        load(file)
    with pytest.raises(ValueError, match="there is no file"):
        load(tmp_path / "other.toml")


def test_changes_replace_keys_and_keep_the_rest():
    spec = study("digits", methods=["uw_so", "gls"], seeds=2, epochs=None)
    assert [each.id for each in spec.methods] == ["uw_so", "gls"]
    assert spec.methods[0].search and spec.seeds == [0, 1]
    assert spec.epochs == study("digits").epochs


def test_new_learning_rates_hold_for_every_method():
    spec = study("digits", learning_rates=[0.1, 0.2])
    assert not any(each.learning_rates or each.search for each in spec.methods)


def test_an_unknown_study_is_told_with_those_there_are():
    with pytest.raises(ValueError, match="known: digits"):
        study("digitz")


def test_files_that_a_study_names_are_looked_for_beside_it_first(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    for name in ("deep/own.py", "own.py", "elsewhere.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "deep" / "study.toml").write_text(
        'problem = "own.py:build"\noptimizer = "elsewhere.py:make"\nschedule = "constant"\n'
        'methods = ["uw", { id = "own.py:Mine" }, "package.module:Theirs"]\n'
        "learning_rates = [0.1]\nepochs = 1\nbatch_size = 2\n"
    )
    monkeypatch.chdir(tmp_path)
    spec = load("deep/study.toml")
    assert spec.problem == "deep/own.py:build" and spec.optimizer == "elsewhere.py:make"
    assert [m.id for m in spec.methods] == ["uw", "deep/own.py:Mine", "package.module:Theirs"]
    monkeypatch.chdir(tmp_path / "deep")
    assert load("study.toml").problem == "own.py:build"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": [{"id": "uw", "learning_rates": [0.1, 0.1]}]}, "repeats an entry"),
        ({"methods": [{"id": "uw_so", "search": {"temperature": [5, 5]}}]}, "repeats an entry"),
        ({"sweep": {"width": [16, 16]}}, "sweep of 'width' repeats"),
        ({"protocol": "frontier", "tuning": "once"}, "needs the points of every seed"),
        ({"learning_rates": {"low": 1, "high": 0.1}}, "low = 1 is not below high = 0.1"),
        ({"candidates": 5}, "a grid has as many as its values make"),
        ({"search": "random"}, "needs candidates"),
        ({"weight_decays": [0.1], "weight_decay": 0.1}, "exclude each other"),
        (
            {
                "methods": [
                    {"id": "uw_so", "options": {"temperature": 1}, "search": {"temperature": [2]}}
                ]
            },
            "'temperature' of 'uw_so' is in options and in search; give it in one of them",
        ),
        (
            {
                "methods": [
                    {"id": "uw", "options": {"heads": "paper"}, "arguments": {"heads": "paper"}}
                ]
            },
            "'heads' of 'uw' is in options and in arguments",
        ),
        (
            {"methods": [{"id": "uw", "search": {"learning_rate": [0.1]}}]},
            "'learning_rate' of 'uw' is no option to search; learning_rates has the values",
        ),
        (
            {"methods": [{"id": "rlw", "options": {"seed": 3}}]},
            "'seed' in options of 'rlw' has no effect: the study gives it",
        ),
        ({"methods": [{"id": "uw", "arguments": {"tasks": 2}}]}, "'tasks' in arguments of 'uw'"),
        ({"methods": [{"id": "stl", "label": "alone"}]}, "'stl'.*label of them cannot be given"),
        ({"methods": [{"id": "uw", "label": ""}]}, "label': .*at least 1 character"),
        ({"tuning": "per seed", "tuning_seeds": 2}, "tuning_seeds has no effect where every seed"),
        ({"weight_step": 0.1}, "weight_step has no effect with protocol = 'litmus'.*'frontier'"),
        (
            {"protocol": "weighting", "allow_unequal_budgets": True},
            "allow_unequal_budgets has no effect with protocol = 'weighting'",
        ),
        (
            {"search": "random", "candidates": 3, "allow_unequal_budgets": True},
            "allow_unequal_budgets has no effect with search = 'random'",
        ),
        (
            {
                "search": "random",
                "candidates": 3,
                "methods": [{"id": "uw_so", "search": {"temperature": {"coarse": [1, 9]}}}],
            },
            "coarse values of 'temperature' of 'uw_so' are not refined with search = 'random'",
        ),
        ({"flatness": True}, "'flatness': give a number"),
        (
            {"near_zero": {"a/rmse": -1}},
            "'near_zero.a/rmse': it should be greater than or equal to 0",
        ),
        ({"near_zero": 0.1}, "'near_zero': give a table of names and values"),
        ({"flatness": 1e30}, "'flatness': it should be less than or equal to 1"),
        (
            {"sweep": {"width": [16, float("nan")]}},
            r"'sweep.width\[1\]': give text, finite numbers",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        fakes.spec(**changes)


@pytest.mark.parametrize(
    "label",
    [
        "frozen uw",
        "single-task a",
        "fixed weights (tuned)",
        "task sampling (tuned)",
        "ew",
        "rgw",
        "single-task",
    ],
)
def test_a_label_that_would_be_taken_for_an_arm_of_the_study_is_refused(label):
    with pytest.raises(ValueError, match="is what studies call an arm of their own"):
        fakes.spec(methods=[{"id": "uw", "label": label}])


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["uw", {"id": "uw", "label": "x"}], "'x' is 'uw' with the same options, which is listed too"),
        ([{"id": "uw", "label": "x"}, {"id": "uw", "label": "y"}], "'y' is 'uw' with the same"),
        (["uw", "uw"], "'uw' is 'uw' with the same options"),
        ([{"id": "ew", "label": "x"}], "'x' is 'ew' with .*which protocol 'litmus' has by itself"),
    ],
)  # fmt: skip
def test_one_method_under_two_labels_is_refused_and_none_is_dropped(methods, message):
    with pytest.raises(ValueError, match=message):
        arms(fakes.spec(methods=methods), {"a": 1.0, "b": 1.0})


def test_controls_may_be_listed_and_methods_with_other_options_labelled():
    methods = ["ew", {"id": "rlw", "label": "rlw"}, {"id": "uw", "label": "x"}]
    methods.append({"id": "uw", "arguments": {"update_every": 2}})
    labels = [each.label for each in arms(fakes.spec(methods=methods), {"a": 1.0, "b": 1.0})]
    assert labels[3:] == ["ew", "rlw", "rgw", "x", "uw (update_every=2)"]


def test_what_has_no_effect_is_let_be_in_a_study_that_ran(tmp_path):
    with Store(tmp_path / "s.db") as store:
        store.set(spec={**fakes.spec().model_dump(mode="json"), "tuning": "per seed"})
        assert study_of(store).tuning_seeds == 1
