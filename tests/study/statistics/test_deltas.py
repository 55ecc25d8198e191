import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from equipoise.study.statistics import (
    bootstrap_delta_m,
    delta_m,
    delta_m_flat,
    expanded_percentiles,
    holm,
    mean_interval,
    mean_rank,
    paired_differences,
    relative_change,
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


def test_mean_rank_counts_from_one_for_the_best_and_shares_ties():
    scores = np.array([[[90.0, 0.1, 1.0]], [[80.0, 0.2, 1.0]], [[70.0, 0.3, 1.0]]])
    assert mean_rank(scores, HIGHER) == pytest.approx([(1 + 1 + 2) / 3, 2, (3 + 3 + 2) / 3])


@given(arrays(float, (5, 3, 3), elements=finite))
def test_mean_ranks_average_to_the_middle(scores):
    assert mean_rank(scores, HIGHER).mean() == pytest.approx(3)


def test_holm_agrees_with_a_worked_example():
    # Four p values; sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, made monotone.
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_leaves_out_what_could_not_be_tested():
    corrected = holm(np.array([0.01, np.nan, 0.04]))
    assert corrected[[0, 2]] == pytest.approx([0.02, 0.04])
    assert np.isnan(corrected[1])


@given(arrays(float, st.integers(1, 8), elements=st.floats(0, 1)))
def test_holm_lies_between_the_plain_value_and_bonferroni(p):
    corrected = holm(p)
    assert (corrected >= p - 1e-12).all()
    assert (corrected <= np.minimum(p * len(p), 1) + 1e-12).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(corrected[order]) >= -1e-12).all()


def test_paired_differences_agree_with_scipy():
    random = np.random.default_rng(0)
    base = random.normal(size=6)
    values = base + random.normal(0.5, 0.4, size=(1, 6))
    (gap,) = paired_differences(values, base)
    expected = stats.ttest_rel(values[0], base)
    interval = expected.confidence_interval(0.95)
    assert gap.p == pytest.approx(expected.pvalue)
    assert (gap.low, gap.high) == pytest.approx((interval.low, interval.high))
    assert gap.wins == (values[0] > base).sum()


def test_what_both_arms_share_in_a_seed_does_not_blur_their_difference():
    shared = np.array([0.0, 10.0, -20.0, 5.0, 30.0])
    (gap,) = paired_differences((shared + 1 + np.array([0.1, 0, -0.1, 0, 0]))[None], shared)
    assert gap.low > 0.8 and gap.high < 1.2 and gap.shown()


def test_a_pair_with_a_missing_run_is_left_out():
    (gap,) = paired_differences(np.array([[1.0, np.nan, 3.0]]), np.array([0.0, 5.0, 1.0]))
    assert gap.runs == 2 and gap.value == pytest.approx(1.5)


@pytest.mark.parametrize("pairs", [1, 2])
def test_fewer_than_three_pairs_show_nothing(pairs):
    ones = 1 + 1e-6 * np.arange(pairs)
    (gap,) = paired_differences(ones[None], np.zeros(pairs))
    assert np.isnan(gap.p) and np.isnan(gap.low) and not gap.tested and not gap.shown()


def test_equal_runs_show_no_difference():
    (gap,) = paired_differences(np.array([[1.0, 2.0, 4.0]]), np.array([1.0, 2.0, 4.0]))
    assert gap.p == 1 and not gap.shown()


def test_mean_interval_of_one_run_has_no_width_to_show():
    assert np.isnan(mean_interval(np.array([3.0])).low)


def test_bootstrap_interval_includes_the_noise_of_the_reference():
    random = np.random.default_rng(1)
    scores = np.tile([90.0, 1.0, 2.0], (5, 1)) * (1 + 0.001 * random.normal(size=(5, 3)))
    quiet = bootstrap_delta_m(
        scores, scores * (1 + 0.001 * random.normal(size=(5, 3))), HIGHER, TASK_OF
    )
    noisy = bootstrap_delta_m(
        scores, scores * (1 + 0.05 * random.normal(size=(5, 3))), HIGHER, TASK_OF
    )
    assert noisy.high - noisy.low > 5 * (quiet.high - quiet.low)


def test_bootstrap_value_is_the_mean_of_the_runs_delta_m():
    random = np.random.default_rng(2)
    scores, reference = random.uniform(1, 2, (5, 3)), random.uniform(1, 2, (5, 3))
    runs = delta_m(relative_change(scores, reference.mean(0), HIGHER), TASK_OF)
    found = bootstrap_delta_m(scores, reference, HIGHER, TASK_OF)
    assert found.value == pytest.approx(runs.mean())
    assert found.low < found.value < found.high


def test_two_runs_give_no_bootstrap_interval():
    scores = np.array([[1.0, 2.0, 3.0], [1.1, 2.1, 3.1]])
    assert np.isnan(bootstrap_delta_m(scores, scores, HIGHER, TASK_OF).low)


def test_expanded_percentiles_cover_with_five_runs_what_plain_ones_do_not():
    random = np.random.default_rng(3)
    runs, trials = 5, 1500
    samples = random.normal(size=(trials, runs))
    picks = random.integers(runs, size=(600, runs))
    means = samples[:, picks].mean(-1)
    expanded = np.array([expanded_percentiles(row, runs) for row in means])
    plain = np.quantile(means, [0.025, 0.975], axis=1).T

    def coverage(bounds):
        return float(((bounds[:, 0] <= 0) & (bounds[:, 1] >= 0)).mean())

    assert coverage(plain) < 0.88
    assert coverage(expanded) > 0.91


@settings(max_examples=30)
@given(st.integers(3, 40))
def test_expansion_fades_with_many_runs(runs):
    resampled = np.random.default_rng(0).normal(size=20_000)
    low, high = expanded_percentiles(resampled, runs)
    assert high - low > 3.85  # the plain interval of a standard normal is 3.92 wide
    if runs > 30:
        assert high - low < 4.5
