"""What an arm tries: lists, draws, refinement, frozen weights, proposals."""

import math

import fakes
import numpy as np
import pytest

from equipoise.study import arms
from equipoise.study.fixed import FIXED, simplex
from equipoise.study.spaces import Axes, Candidate, Frozen, Known, Refined
from equipoise.study.values import Coarse, between

TASKS = {"a": 1.0, "b": 0.01}


def known(score=lambda _: None, seed=0, weights=lambda _: None):
    return Known(seed, score, weights, lambda _: "{}")


def space(label, **changes):
    return next(a for a in arms(fakes.spec(**changes), TASKS) if a.label == label).space


def test_a_grid_has_every_rate_with_every_decay_and_option():
    method = {"id": "uw_so", "search": {"temperature": [1.0, 2.0]}}
    made = space("uw_so", methods=[method], weight_decays=[0, 0.1], allow_unequal_budgets=True)
    points = {(c.learning_rate, c.weight_decay, c.option("temperature")) for c in made.points}
    assert made.size == len(points) == 3 * 2 * 2


def test_decays_give_every_arm_as_many_candidates():
    sizes = {a.space.size for a in arms(fakes.spec(weight_decays=[0, 0.1], methods=["uw"]), TASKS)}
    assert sizes == {6}


def test_draws_differ_by_seed_and_share_learning_rates_between_arms():
    drawn = {"search": "random", "candidates": 20, "learning_rates": {"low": 1e-3, "high": 0.1}}
    equal, random = space("ew", **drawn), space("rlw", **drawn)
    rates = [c.learning_rate for c in equal.candidates(known())]
    assert rates == [c.learning_rate for c in random.candidates(known())]
    assert rates != [c.learning_rate for c in equal.candidates(known(seed=1))]
    assert len(set(rates)) == 20 and min(rates) >= 1e-3 and max(rates) <= 0.1
    # On a logarithmic scale half of the draws lie below the geometric mean.
    many = space("ew", **{**drawn, "candidates": 2000}).candidates(known())
    assert np.mean([c.learning_rate < 0.01 for c in many]) == pytest.approx(0.5, abs=0.05)


def test_drawn_fixed_weights_begin_with_the_family():
    made = space(FIXED, search="random", candidates=5).candidates(known())
    ratios = [c.option("weights")[1] / c.option("weights")[0] for c in made]
    assert ratios[:3] == pytest.approx([100, 10, 1], rel=0.02)
    assert len(set(ratios)) == 5


def test_a_range_needs_a_search_that_draws():
    with pytest.raises(ValueError, match="set search = 'random'"):
        arms(fakes.spec(learning_rates={"low": 1e-3, "high": 0.1}), TASKS)


def test_finer_values_come_once_the_coarse_ones_are_known():
    axes = Axes([0.1, 0.2], (0.0,), {"temperature": Coarse(coarse=[1, 4, 16], fine=2)})
    refined = Refined(axes, "temperature")
    assert refined.size == 8
    assert len(refined.candidates(known())) == 6

    def score(candidate):
        return -abs(math.log(candidate.option("temperature") / 5)) - candidate.learning_rate

    made = refined.candidates(known(score))
    assert len(made) == 8
    assert {c.learning_rate for c in made[6:]} == {0.1}
    assert [c.option("temperature") for c in made[6:]] == pytest.approx([2, 8])


@pytest.mark.parametrize(
    ("best", "want"),
    [(1, [4 ** (1 / 3), 4 ** (2 / 3)]), (4, [2, 8]), (16, [16 / 4 ** (1 / 3), 16 / 4 ** (2 / 3)])],
    ids=["low", "middle", "high"],
)
def test_finer_values_lie_on_both_sides_of_the_best_and_at_an_end_inside(best, want):
    assert between(Coarse(coarse=[1, 4, 16], fine=2), best) == pytest.approx(want, rel=1e-3)


def test_finer_values_of_a_fraction_stay_one():
    for coarse in ([0.1, 0.5, 0.9], [0, 0.5, 1]):
        for best in coarse:
            made = between(Coarse(coarse=coarse, fine=4), best)
            assert len(set(made)) == 4 and min(coarse) < min(made) and max(made) < max(coarse)


def test_a_choice_of_few_values_is_drawn_once_each():
    drawn = {"search": "random", "candidates": 10, "learning_rates": [0.1]}
    assert len(space("ew", **drawn).candidates(known())) == 1


def test_where_nothing_finished_nothing_is_refined():
    axes = Axes([0.1], (0.0,), {"temperature": Coarse(coarse=[1, 4], fine=2)})
    assert len(Refined(axes, "temperature").candidates(known(lambda _: math.nan))) == 2


def test_frozen_weights_wait_and_are_normalised():
    frozen = Frozen("uw", Axes([0.1, 0.2]), ("a", "b"))
    assert frozen.candidates(known()) is None
    made = frozen.candidates(known(weights=lambda _: {"a": 1.0, "b": 3.0}))
    assert [c.learning_rate for c in made] == [0.1, 0.2]
    assert made[0].option("weights") == [0.5, 1.5]
    for none in ({}, {"a": 1.0, "c": 1.0}, {"a": 2.0, "b": -1.0}, {"a": 1.0, "b": 0.0}):
        assert frozen.candidates(known(weights=lambda _, none=none: none)) == []


def test_the_simplex_has_the_points_of_the_paper():
    axes = Axes([0.1])
    # Equal weights are one of the nine for two tasks, and one more for three.
    assert len(simplex([1, 1], axes, 0.1, by_loss=False)) == 9
    three = simplex([1, 1, 1], axes, 0.1, by_loss=False)
    assert len(three) == 36 + 1
    sums = {round(sum(c.option("weights")), 2) for c in three}
    assert sums <= {3.0, 2.99, 3.01}
    with pytest.raises(ValueError, match="brute force is for few tasks"):
        simplex([1.0] * 12, axes, 0.05, by_loss=False)


@pytest.mark.parametrize(("step", "tasks"), [(0.4, 2), (0.3, 3)])
def test_a_step_that_does_not_divide_one_is_refused(step, tasks):
    with pytest.raises(ValueError, match="does not divide 1"):
        simplex([1.0] * tasks, Axes([0.1]), step, by_loss=False)


def test_shares_make_weights_inverse_to_the_first_loss():
    made = simplex([1.0, 0.01], Axes([0.1]), 0.25, by_loss=True)
    ratios = sorted(c.option("weights")[1] / c.option("weights")[0] for c in made)
    assert ratios == pytest.approx([1, 100 / 3, 100, 300], rel=0.02)


def test_proposals_come_in_rounds_learn_and_are_the_same_again():
    optuna = pytest.importorskip("optuna")
    assert optuna
    made = space("ew", protocol="tune", candidates=16, learning_rates={"low": 1e-4, "high": 1})
    assert len(made.candidates(known())) == 4

    def score(candidate):
        return -abs(math.log10(candidate.learning_rate) + 2)

    proposed = made.candidates(known(score))
    assert len(proposed) == made.size == 16
    assert proposed == made.candidates(known(score))
    assert proposed != made.candidates(known(score, seed=1))
    near = [abs(math.log10(c.learning_rate) + 2) for c in proposed]
    assert np.mean(near[8:]) < np.mean(near[:8])


def test_proposed_fixed_weights_begin_with_those_that_make_the_losses_equal():
    pytest.importorskip("optuna")
    made = space(FIXED, protocol="tune", candidates=6)
    first, *_ = made.candidates(known())
    assert first.option("weights")[1] / first.option("weights")[0] == pytest.approx(100, rel=0.02)


def test_a_candidate_is_told_in_a_few_characters():
    candidate = Candidate(0.1, '{"kind":"soft","temperature":2.0,"weights":[0.25,1.75]}')
    assert candidate.told("weights", "temperature") == "weights 0.25:1.75, temperature 2"
    assert candidate.told("kind") == "kind soft"
