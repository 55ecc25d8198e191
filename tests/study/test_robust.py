"""Other yardsticks agree with what is known, and say so where a few runs or tasks make the difference."""

from dataclasses import replace

import fakes
import numpy as np
import pytest

from equipoise.study.analyses import profiles, robust_of, runs_of, stability_of
from equipoise.study.fixed import FIXED


def study(folder, **gains):
    """Methods gain in task a, or in task b, or in both; every method has a seed of noise of its own."""

    def scores(trial):
        noise = 0.001 * np.random.default_rng([trial.seed, len(trial.method)]).normal(size=2)
        a, b = gains.get(trial.method, (0.0, 0.0)) + noise
        return (1 - a, 2 - 2 * a, 5 * (1 + b))

    return fakes.study(folder, scores, methods=["gls", "uw"], seeds=6)


def test_a_method_that_always_wins_wins_by_every_yardstick(tmp_path):
    found = study(tmp_path, gls=(0.2, 0.2))
    told = {each.label: each for each in robust_of(found)}
    gls = told["gls"]
    assert gls.iqm.value == pytest.approx(20, abs=1) and gls.iqm.low > 18
    assert gls.chance.value == 1 and gls.flips == pytest.approx(2 / 64)
    assert told[FIXED].chance is None and np.isnan(told[FIXED].flips)


def test_a_profile_of_a_better_method_lies_above(tmp_path):
    thresholds, shares = profiles(runs_of(study(tmp_path, gls=(0.2, 0.2))))
    assert (shares["gls"] >= shares["uw"]).all() and shares["gls"].max() == 1
    assert len(thresholds) == len(shares["gls"])


def test_an_order_that_one_task_makes_does_not_last_without_it(tmp_path):
    found = study(tmp_path, gls=(0.4, -0.1), uw=(0.0, 0.1), ew=(-0.1, 0.05), rlw=(-0.2, 0.02))
    told = {(each.kind, each.left_out): each for each in stability_of(found)}
    assert told["task", "a"].best == "uw" and told["task", "b"].best == "gls"
    assert told["task", "b"].tau > told["task", "a"].tau
    assert {label for kind, label in told if kind == "method"} == {e.arm.label for e in found.arms}


def test_lost_runs_are_left_out_of_the_yardsticks_and_their_arm_of_the_order(tmp_path):
    def ended(trial):
        done = fakes.result(trial, (1.0 + 0.01 * trial.seed, 2.0, 5.0))
        lost = (trial.method, trial.seed) == ("gls", 1)
        return replace(done, status="diverged") if lost else done

    found = fakes.ran(tmp_path, ended, methods=["gls"])
    assert len(runs_of(found)["gls"]) == 4
    assert ("method", "gls") not in {(e.kind, e.left_out) for e in stability_of(found)}
