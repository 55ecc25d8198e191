"""Searches that learn, and what they ask of a trial."""

import json
import math
import sys
from dataclasses import replace

import fakes
import numpy as np
import pytest
import tiny

from equipoise.study import (
    Failure,
    Inline,
    Objective,
    Store,
    Trial,
    advice,
    findings,
    parse,
    pruning,
    run,
    warnings,
)
from equipoise.study.selection import measures
from equipoise.study.train import run as train

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.WARNING)

TINY = f"{tiny.HERE}:tiny"
TRIAL = Trial(
    problem=TINY, method="ew", stage="final", seed=0, learning_rate=0.01, epochs=3, batch_size=8
)
MEASURES = measures(tiny.tiny())


def bars(**epochs):
    return pruning.bars(
        MEASURES,
        np.ones((3, len(MEASURES))),
        np.zeros(len(MEASURES), dtype=bool),
        {int(k[1:]): v for k, v in epochs.items()},
    )


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


def tune(**changes):
    content = {
        "problem": TINY,
        "protocol": "tune",
        "learning_rates": {"low": 1e-4, "high": 1.0},
        "candidates": 12,
        "seeds": 2,
        "epochs": 3,
        "batch_size": 8,
    }
    return parse({**content, **changes})


def test_more_seeds_and_a_failure_repeat_nothing_of_a_search(tmp_path):
    path = tmp_path / "s.db"
    broken = []

    def ended(trial):
        # One trial of equal weights fails the first time.
        if trial.method == "ew" and trial.seed == 1 and not broken:
            broken.append(trial)
            return Failure("no luck")
        return train(trial)

    run(tune(), path, Inline(ended))
    with Store(path) as store:
        before = set(store.trials())
    run(tune(seeds=3), path, Inline())
    with Store(path) as store:
        found = findings(store)
        named = {
            t.id
            for each in found.all_arms
            for own in each.plan.tried
            for ts in own.values()
            for t in ts
        }
        assert before <= set(store.trials())
    # All that had run is still asked for, the failed one too.
    assert before <= named and broken[0].id in named


def test_a_finished_search_is_read_without_optuna(tmp_path, monkeypatch):
    path = tmp_path / "s.db"
    run(tune(candidates=5, seeds=1, epochs=1), path, Inline())
    monkeypatch.setitem(sys.modules, "optuna", None)
    with Store(path, read_only=True) as store:
        assert all(each.choice.complete for each in findings(store).all_arms)
    with pytest.raises(ValueError, match="needs Optuna"):
        run(tune(candidates=5, seeds=1, epochs=1), tmp_path / "other.db", Inline())


def test_final_trials_that_are_run_apart_have_no_bars(tmp_path):
    path = tmp_path / "s.db"
    run(tune(tuning="once", seeds=3, epochs=2), path, Inline())
    with Store(path) as store:
        finals = [each for each in store.trials().values() if each.trial.stage == "final"]
    # A final trial an arm and seed, and none of a choice that was made too early.
    assert {each.status for each in finals} == {"done"} and len(finals) == 6 * 3
    assert {each.trial.bars for each in finals} == {"{}"}


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


@pytest.mark.parametrize(
    ("best", "side"), [(1e-4, "lower"), (1.0, "upper"), (1e-2, None)], ids=["low", "high", "middle"]
)
@pytest.mark.parametrize("search", ["random", "optuna"])
def test_a_choice_at_the_end_of_a_range_is_told(tmp_path, best, side, search):
    def scores(trial):
        # The nearer to the best learning rate the better.
        level = 1 + 0.1 * abs(math.log10(trial.learning_rate / best))
        return level, 2 * level, 5 / level

    found = fakes.study(
        tmp_path,
        scores,
        protocol="tune",
        search=search,
        learning_rates={"low": 1e-4, "high": 1.0},
        candidates=90 if search == "random" else 24,
        seeds=3,
        tuning="per seed",
    )
    told = [each.text for each in warnings(found) if each.id == "edge"]
    said = " ".join(advice(found))
    if side is None:
        assert told == [] and "Widen" not in said
    else:
        assert f"lay at the {side} edge of its range, 0.0001 to 1, for" in told[0]
        assert (
            f"Widen the learning rates {'upwards to 10' if side == 'upper' else 'downwards to 1e-05'}"
            in said
        )


def test_an_objective_asks_for_a_study_that_maximizes():
    objective = Objective(TINY, ["ew"], [0.01], 1, 8)
    with pytest.raises(ValueError, match="create_study\\(direction='maximize'\\)"):
        optuna.create_study(direction="minimize").optimize(objective, n_trials=1)
    with pytest.raises(ValueError, match="options to be tried go into search"):
        Objective(TINY, [{"id": "uw_so"}], [0.01], 1, 8)
