import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from equipoise.study.statistics import friedman, mean_rank, without_each_arm, without_each_task

HIGHER = np.array([True, False, False])
finite = st.floats(0.1, 100)


def test_mean_rank_counts_from_one_for_the_best_and_shares_ties():
    scores = np.array([[[90.0, 0.1, 1.0]], [[80.0, 0.2, 1.0]], [[70.0, 0.3, 1.0]]])
    assert mean_rank(scores, HIGHER) == pytest.approx([(1 + 1 + 2) / 3, 2, (3 + 3 + 2) / 3])


@given(arrays(float, (5, 3, 3), elements=finite))
def test_mean_ranks_average_to_the_middle(scores):
    assert mean_rank(scores, HIGHER).mean() == pytest.approx(3)


def test_friedman_agrees_with_scipy_on_the_means_of_problems():
    scores = np.random.default_rng(0).normal(size=(4, 7, 3)) + np.arange(4)[:, None, None] / 3
    found = friedman(scores, problems=7, seeds=3)
    assert found.p == pytest.approx(stats.friedmanchisquare(*scores.mean(-1)).pvalue)
    assert found.ranks.sum() == pytest.approx(1 + 2 + 3 + 4)


def test_nemenyis_critical_difference_is_that_of_the_paper():
    # Demšar 2006, section 3.2.2: four classifiers, 14 data sets, q = 2.569: CD = 1.25.
    scores = np.random.default_rng(0).normal(size=(4, 14, 1))
    assert friedman(scores, 14, 1).critical == pytest.approx(1.25, abs=0.005)


def test_more_seeds_do_not_shrink_the_critical_difference_and_more_problems_do():
    random = np.random.default_rng(0)
    few, more = random.normal(size=(3, 4, 2)), random.normal(size=(3, 4, 50))
    assert friedman(few, 4, 2).critical == friedman(more, 4, 50).critical
    assert friedman(random.normal(size=(3, 16, 2)), 16, 2).critical < friedman(few, 4, 2).critical


def test_seeds_taken_for_problems_are_refused():
    with pytest.raises(ValueError, match="5 problems with 2 seeds"):
        friedman(np.zeros((3, 2, 5)), problems=5, seeds=2)


@pytest.mark.parametrize("shape", [(2, 5, 1), (3, 1, 5)])
def test_too_few_arms_or_problems_have_no_ranks_over_problems(shape):
    with pytest.raises(ValueError, match="three arms and two problems"):
        friedman(np.zeros(shape), *shape[1:])


def test_arms_that_tie_everywhere_do_not_differ():
    assert friedman(np.ones((3, 5, 2)), 5, 2).p == 1


def test_a_lead_from_one_task_is_lost_without_it():
    changes = np.array([[30.0, 0.0, 0.0], [1.0, 2.0, 2.0], [0.0, 1.0, 1.0]])
    places, tau = without_each_task(changes, np.array([0, 1, 1]))
    assert places.tolist() == [[3, 1, 2], [1, 2, 3]]
    assert tau == pytest.approx([-1 / 3, 1])


def test_the_order_of_mean_ranks_may_hang_on_a_third_arm():
    # a beats b in two of three runs; c comes between them only where b is ahead.
    a, b, c = [3.0, 3.0, 1.0], [2.0, 2.0, 4.0], [1.0, 1.0, 3.0]
    d = [0.0, 0.0, 2.0]
    scores = np.array([a, b, c, d])[..., None]
    tau = without_each_arm(scores, np.array([True]))
    full = mean_rank(scores, np.array([True]))
    assert len(tau) == 4 and full[1] < full[0]
    assert tau[3] < 1 and tau[2] < 1
    assert without_each_arm(np.array([a, b, c, d])[:, :2, None], np.array([True])) == pytest.approx(
        np.ones(4)
    )
