import numpy as np
import pytest
from scipy import stats

from equipoise.study.statistics import performance_profile, probability_of_improvement, sign_flip


def test_sign_flips_agree_with_scipy():
    gaps = np.random.default_rng(0).normal(0.6, 1, size=9)
    expected = stats.permutation_test(
        (gaps,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert sign_flip(gaps) == pytest.approx(expected)


def test_five_pairs_cannot_reach_five_percent():
    assert sign_flip(np.ones(5)) == pytest.approx(2 / 32)
    assert sign_flip(np.ones(6)) == pytest.approx(2 / 64)


def test_drawn_signs_agree_with_listed_ones():
    gaps = np.random.default_rng(1).normal(0.35, 1, size=17)
    listed = 1 - 2 * (np.arange(2**17)[:, None] >> np.arange(17) & 1)
    exact = (np.abs(listed @ gaps) >= abs(gaps.sum()) - 1e-12).mean()
    assert sign_flip(gaps) == pytest.approx(exact, abs=0.01)


def test_no_pairs_are_refused():
    with pytest.raises(ValueError, match="at least one pair"):
        sign_flip(np.array([]))


def test_probability_of_improvement_is_the_mann_whitney_statistic():
    random = np.random.default_rng(0)
    one, other = random.normal(0.5, 1, size=(6, 1)), random.normal(size=(8, 1))
    expected = stats.mannwhitneyu(one[:, 0], other[:, 0]).statistic / 48
    found = probability_of_improvement(one, other)
    assert found.value == pytest.approx(expected)
    assert 0 <= found.low < found.value < found.high <= 1


def test_ties_count_half():
    assert probability_of_improvement(np.ones((3, 2)), np.ones((3, 2))).value == 0.5


def test_the_interval_of_equal_arms_holds_one_half_often_enough():
    random = np.random.default_rng(2)
    found = [
        probability_of_improvement(*random.normal(size=(2, 5, 2)), draws=300) for _ in range(300)
    ]
    assert np.mean([each.low <= 0.5 <= each.high for each in found]) > 0.9


def test_a_profile_falls_from_one_to_zero():
    scores = np.array([[0.0, 1.0], [2.0, 3.0]])
    found = performance_profile(scores, np.array([-1.0, 0.0, 1.5, 2.5, 3.0]))
    assert found == pytest.approx([1, 0.75, 0.5, 0.25, 0])
