"""Searches that learn, and what they ask of a trial."""

import json
from dataclasses import replace

import pytest
import tiny

from equipoise.study import Inline, Objective, Store, Trial, findings, parse, pruning, run
from equipoise.study.train import run as train

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.WARNING)

TINY = f"{tiny.HERE}:tiny"
TRIAL = Trial(
    problem=TINY, method="ew", stage="final", seed=0, learning_rate=0.01, epochs=3, batch_size=8
)
REFERENCE = {("a", "rmse"): 1.0, ("a", "mean_absolute_error"): 1.0, ("b", "score"): 10.0}


def bars(**epochs):
    names = {metric.name for task in tiny.tiny().tasks for metric in task.metrics}
    reference = {key: v for key, v in REFERENCE.items() if key[1] in names}
    reference |= {
        (task.name, metric.name): 1.0
        for task in tiny.tiny().tasks
        for metric in task.metrics
        if (task.name, metric.name) not in reference
    }
    return pruning.bars(reference, {int(k[1:]): v for k, v in epochs.items()})


def test_a_trial_below_its_bar_is_given_up_and_never_reads_the_test_split():
    options = '{"forbid_test":true}'
    given_up = train(replace(TRIAL, bars=bars(e2=1e6), problem_options=options))
    assert given_up.status == "pruned" and "after epoch 2" in given_up.note
    assert max(row.epoch for row in given_up.metrics) == 2
    kept = train(replace(TRIAL, bars=bars(e1=-1e6, e2=-1e6)))
    assert kept.status == "done" and {row.split for row in kept.metrics} >= {"test"}


def test_the_bar_of_the_last_epoch_gives_nothing_up():
    assert train(replace(TRIAL, bars=bars(e3=1e6))).status == "done"


def test_bars_are_medians_of_what_came_that_far():
    curves = [{1: float(n), 2: 10.0 * n} for n in range(5)] + [{1: 100.0}]
    assert pruning.medians(curves) == {1: 2.5}
    assert pruning.medians(curves[:3]) == {}


def test_a_study_that_is_searched_goes_on_where_it_was_and_prunes(tmp_path):
    spec = parse(
        {
            "problem": TINY,
            "protocol": "tune",
            "methods": ["uw"],
            "learning_rates": {"low": 1e-4, "high": 1.0},
            "candidates": 12,
            "seeds": 1,
            "epochs": 3,
            "batch_size": 8,
        }
    )
    whole, parts = tmp_path / "whole.db", tmp_path / "parts.db"
    run(spec, whole, Inline())

    class EnoughError(Exception):
        pass

    class Listener:
        def __init__(self):
            self.left = 17

        def stage(self, name, total, kept):
            pass

        def finished(self, trial, outcome):
            self.left -= 1
            if not self.left:
                raise EnoughError

    with pytest.raises(EnoughError):
        run(spec, parts, Inline(), Listener())
    run(spec, parts, Inline())
    with Store(whole) as one, Store(parts) as two:
        assert set(one.trials()) == set(two.trials())
        states = [each.status for each in one.trials().values()]
        found = findings(one)
    # Single-task networks are not pruned; of the others some are.
    assert states.count("pruned") > 0
    assert all(arm.choice.complete for arm in found.all_arms)
    single = [each for each in found.stored.values() if each.trial.task]
    assert {each.status for each in single} == {"done"}
    assert {json.dumps(each.trial.bars) for each in single} == {'"{}"'}


def test_an_objective_reports_every_epoch_can_be_pruned_and_suggests_weights():
    objective = Objective(TINY, ["scalarization"], {"low": 1e-3, "high": 0.1}, 3, 8)
    search = optuna.create_study(
        direction="maximize",
        pruner=optuna.pruners.ThresholdPruner(lower=1e9),
    )
    search.optimize(objective, n_trials=2)
    assert [len(each.intermediate_values) for each in search.trials] == [1, 1]
    assert {each.state.name for each in search.trials} == {"PRUNED"}
    plain = optuna.create_study(direction="maximize", pruner=optuna.pruners.NopPruner())
    plain.optimize(objective, n_trials=2)
    assert {"learning_rate", "share 0", "share 1"} <= set(plain.best_params)
    assert -1.5 < plain.best_value < 0


def test_an_objective_by_a_metric_and_over_methods():
    objective = Objective(TINY, ["ew", "uw"], [0.01], 1, 8, by="b/score")
    search = optuna.create_study(direction="maximize")
    search.optimize(objective, n_trials=3)
    assert search.best_value > 5
    with pytest.raises(ValueError, match="give one method"):
        Objective(TINY, ["ew", "uw_so"], [0.01], 1, 8, search={"temperature": [1.0]})
