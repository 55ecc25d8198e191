import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from equipoise.study.statistics import (
    change,
    delta_m,
    delta_m_flat,
    near_zero,
    relative_change,
    usual_spread,
)

HIGHER = np.array([True, False, False])
TASK_OF = np.array([0, 1, 1])
finite = st.floats(0.1, 100)


def test_relative_change_is_positive_where_better_whatever_the_direction():
    change = relative_change(np.array([110.0, 0.9, 2.2]), np.array([100.0, 1.0, 2.0]), HIGHER)
    assert change == pytest.approx([10, 10, -10])


def test_relative_change_takes_the_size_of_a_negative_reference():
    assert relative_change(np.array([-1.0]), np.array([-2.0]), np.array([True])) == pytest.approx(
        50
    )


def test_a_reference_of_zero_is_refused():
    with pytest.raises(ValueError, match="exactly 0"):
        relative_change(np.ones(1), np.zeros(1), np.array([True]))


def test_delta_m_averages_within_tasks_first_and_the_flat_one_does_not():
    changes = np.array([6.0, 0.0, 3.0])
    assert delta_m(changes, TASK_OF) == pytest.approx((6 + 1.5) / 2)
    assert delta_m_flat(changes) == pytest.approx(3)


def test_delta_m_of_published_numbers():
    # Nash-MTL's NYUv2 table, its Delta_m% of LS (lower is better there, flat over nine metrics): 5.59.
    single = np.array([38.30, 63.76, 0.6754, 0.2780, 25.01, 19.21, 30.14, 57.20, 69.15])
    equal = np.array([39.29, 65.33, 0.5493, 0.2263, 28.15, 23.96, 22.09, 47.50, 61.08])
    higher = np.array([1, 1, 0, 0, 0, 0, 1, 1, 1], dtype=bool)
    assert delta_m_flat(relative_change(equal, single, higher)) == pytest.approx(-5.59, abs=0.01)


@given(arrays(float, (4, 3), elements=finite))
def test_the_reference_itself_has_delta_m_zero(scores):
    changes = relative_change(scores, scores, HIGHER)
    assert np.allclose(delta_m(changes, TASK_OF), 0)


@given(arrays(float, (4, 3), elements=finite), finite)
def test_delta_m_does_not_depend_on_the_unit_of_a_metric(scores, unit):
    reference = scores.mean(0)
    scale = np.array([1.0, unit, 1.0])
    before = delta_m(relative_change(scores, reference, HIGHER), TASK_OF)
    after = delta_m(relative_change(scores * scale, reference * scale, HIGHER), TASK_OF)
    assert np.allclose(before, after)


def test_a_reference_of_zero_is_refused_by_name():
    reference = np.array([[1.0, 0.0], [1.0, 1.0]])
    with pytest.raises(ValueError, match="reference of R2 is exactly 0"):
        relative_change(np.ones(2), reference, np.array([True, True]), ["accuracy", "R2"])


def test_a_reference_far_from_zero_is_compared_in_percent():
    reference = np.array([[9.0, 1.0, 2.0], [11.0, 1.2, 2.2]])
    found = change(np.array([11.0, 1.0, 2.0]), reference, HIGHER)
    assert not found.plain.any()
    assert found.values == pytest.approx(
        relative_change(np.array([11.0, 1.0, 2.0]), reference.mean(0), HIGHER)
    )


def test_a_reference_within_three_spreads_of_zero_is_compared_by_difference():
    # Mean 0.1, standard deviation 0.1: one spread from zero, where +0.15 would be called +150 %.
    reference = np.array([[0.0, 1.0], [0.1, 1.0], [0.2, 1.0]])
    found = change(np.array([0.25, 1.1]), reference, np.array([True, True]))
    assert found.plain.tolist() == [True, False]
    assert found.values == pytest.approx([0.15, 10.0])


def test_a_plain_difference_is_positive_where_better_too():
    reference = np.array([[0.0], [0.1], [0.2]])
    assert change(np.array([0.05]), reference, np.array([False])).values == pytest.approx([0.05])


def test_the_floor_is_in_the_units_of_its_metric():
    reference = np.array([[0.02, 0.02], [0.0201, 0.0201]])
    assert near_zero(reference, np.array([0.1, 0.0])).tolist() == [True, False]


def test_a_floor_decides_alone():
    reference = np.array([[0.0, 1.0], [0.1, 1.0], [0.2, 1.0], [0.1, 0.9]])
    assert near_zero(reference).tolist() == [True, False]
    assert near_zero(reference, np.array([0.05, 2.0])).tolist() == [False, True]
    assert near_zero(reference, np.array([np.nan, 2.0])).tolist() == [True, True]


def test_the_usual_spread_takes_the_place_of_that_of_few_runs_only():
    few, many = np.array([[0.10], [0.11]]), np.array([[0.10], [0.11], [0.12], [0.13], [0.14]])
    usual = np.array([0.1])
    assert not near_zero(few) and near_zero(few, usual=usual)
    assert not near_zero(many, usual=usual)
    assert not near_zero(few, usual=np.array([np.nan]))


def test_the_usual_spread_is_that_of_a_run_and_follows_no_noisy_arm():
    random = np.random.default_rng(0)
    found = []
    for _ in range(400):
        arms = [random.normal(0, 2.0, size=(3, 1)) for _ in range(9)]
        arms[0] *= 100
        found.append(usual_spread(arms)[0])
    assert 1.7 < np.median(found) < 2.4
    gaps = np.array([[1.0, np.nan], [3.0, np.nan]])
    assert np.isnan(usual_spread([gaps, gaps])[1]) and usual_spread([gaps])[0] > 0
    assert np.isnan(usual_spread([gaps[:1]])).all()


def test_at_two_seeds_fewer_references_near_zero_are_taken_for_far_ones():
    random = np.random.default_rng(1)
    taken = {"own": 0, "usual": 0}
    for _ in range(300):
        reference, *arms = random.normal(1.0, 1.0, size=(8, 2, 1))
        taken["own"] += not near_zero(reference)
        taken["usual"] += not near_zero(reference, usual=usual_spread([reference, *arms]))
    assert taken["usual"] < taken["own"] / 4


@pytest.mark.parametrize(("value", "near"), [(0.0, True), (0.5, False), (np.nan, False)])
def test_one_run_of_a_reference_is_near_zero_only_at_zero(value, near):
    assert near_zero(np.array([[value]])).tolist() == [near]


def test_runs_that_are_missing_do_not_count_for_near_zero():
    reference = np.array([[1.0], [np.nan], [1.1]])
    assert not near_zero(reference).any()


def test_against_equal_weights_these_have_delta_m_zero_and_the_signs_are_kept():
    equal, method = np.array([80.0, 0.5, 2.0]), np.array([84.0, 0.5, 1.8])
    changes = relative_change(np.stack([equal, method]), equal, HIGHER)
    assert delta_m(changes, TASK_OF) == pytest.approx([0.0, (5 + (0 + 10) / 2) / 2])
