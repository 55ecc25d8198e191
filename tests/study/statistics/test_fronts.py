import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from equipoise.study.statistics import additive_epsilon, front, hypervolume, igd_plus

points_of = st.integers(1, 4).flatmap(
    lambda k: arrays(float, st.tuples(st.integers(1, 7), st.just(k)), elements=st.floats(0, 1))
)


def by_inclusion_exclusion(points, reference):
    """The volume of a union of boxes, over all subsets of them."""
    total = 0.0
    for subset in range(1, 2 ** len(points)):
        taken = [row for place, row in enumerate(points) if subset >> place & 1]
        sides = np.maximum(reference - np.max(taken, axis=0), 0)
        total += (-1) ** (len(taken) + 1) * np.prod(sides)
    return total


def test_hypervolume_of_a_staircase():
    points = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
    # Below (4, 4): 3 + 2 + 1 squares.
    assert hypervolume(points, np.array([4.0, 4.0])) == pytest.approx(6)


@settings(max_examples=60, deadline=None)
@given(points_of)
def test_hypervolume_is_the_volume_of_the_union_of_boxes(points):
    reference = np.full(points.shape[1], 0.9)
    assert hypervolume(points, reference) == pytest.approx(
        by_inclusion_exclusion(points, reference), abs=1e-9
    )


def test_points_beyond_the_reference_add_nothing():
    assert hypervolume(np.array([[5.0, 0.0]]), np.array([4.0, 4.0])) == 0


def test_the_front_is_what_nothing_dominates():
    points = np.array([[1.0, 3.0], [2.0, 2.0], [2.0, 3.0], [1.0, 3.0]])
    assert front(points).tolist() == [True, True, False, True]


def test_epsilon_is_what_must_be_taken_off():
    reference = np.array([[1.0, 2.0], [2.0, 1.0]])
    assert additive_epsilon(reference, reference) == 0
    assert additive_epsilon(reference + 0.3, reference) == pytest.approx(0.3)
    assert additive_epsilon(reference[:1], reference) == pytest.approx(1.0)
    assert additive_epsilon(reference - 0.2, reference) == pytest.approx(-0.2)


def test_igd_plus_counts_only_what_is_worse():
    reference = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert igd_plus(np.array([[0.0, 0.0]]), reference) == 0
    # From (0, 1) to (3, 5): 3 and 4 worse; from (1, 0): 2 and 5 worse.
    expected = (5 + np.hypot(2, 5)) / 2
    assert igd_plus(np.array([[3.0, 5.0]]), reference) == pytest.approx(expected)
