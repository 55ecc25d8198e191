import numpy as np
import pytest
from scipy import stats

from equipoise.study.statistics import seeds_needed, smallest_detectable


def test_the_number_of_pairs_is_that_of_the_tables():
    # Cohen 1988: a paired t test, d = 0.5, level 0.05, power 0.80 takes 34 pairs; d = 0.8 takes 15.
    assert seeds_needed(0.5, 1.0) == 34
    assert seeds_needed(-0.8, 1.0) == 15


def test_the_smallest_detectable_difference_is_shown_in_eighty_percent_of_studies():
    spread, seeds, level = 1.5, 6, 0.01
    difference = smallest_detectable(spread / np.sqrt(seeds), seeds - 1, level)
    random = np.random.default_rng(0)
    gaps = random.normal(difference, spread, size=(20_000, seeds))
    shown = stats.ttest_1samp(gaps, 0, axis=1).pvalue < level
    assert shown.mean() == pytest.approx(0.8, abs=0.015)


def test_more_comparisons_need_more_seeds_and_moderation_fewer():
    plain = seeds_needed(1.0, 1.0, comparisons=20)
    assert seeds_needed(1.0, 1.0) < plain
    assert seeds_needed(1.0, 1.0, comparisons=20, prior=4) < plain


def test_both_answers_agree():
    seeds = seeds_needed(0.7, 1.0)
    assert smallest_detectable(1 / np.sqrt(seeds), seeds - 1, 0.05) <= 0.7
    assert smallest_detectable(1 / np.sqrt(seeds - 1), seeds - 2, 0.05) > 0.7


def test_no_difference_takes_for_ever():
    with pytest.raises(ValueError, match="difference of 0"):
        seeds_needed(0.0, 1.0)
    with pytest.raises(ValueError, match="more than 50 seeds"):
        seeds_needed(0.01, 1.0, most=50)


def test_what_is_unknown_stays_unknown():
    assert np.isnan(smallest_detectable(np.nan, 4, 0.05))
    assert np.isnan(smallest_detectable(1.0, 4, np.nan))
