import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from equipoise.study.statistics import (
    bootstrap_iqm,
    delta_m,
    expanded_percentiles,
    interquartile_mean,
    mean_interval,
    paired_delta_m,
    paired_deltas,
    relative_change,
)

HIGHER = np.array([True, False, False])
TASK_OF = np.array([0, 1, 1])


def test_mean_interval_of_one_run_has_no_width_to_show():
    assert np.isnan(mean_interval(np.array([3.0])).low)


def test_the_interval_includes_the_noise_of_the_reference():
    random = np.random.default_rng(1)
    scores = np.tile([90.0, 1.0, 2.0], (5, 1)) * (1 + 0.001 * random.normal(size=(5, 3)))
    quiet, noisy = (
        paired_delta_m(scores, scores * (1 + size * random.normal(size=(5, 3))), HIGHER, TASK_OF)
        for size in (0.001, 0.05)
    )
    assert noisy.high - noisy.low > 5 * (quiet.high - quiet.low)


def test_two_runs_give_no_interval():
    scores = np.array([[1.0, 2.0, 3.0], [1.1, 2.1, 3.1]])
    assert np.isnan(paired_delta_m(scores, scores, HIGHER, TASK_OF).low)


def test_the_mean_of_paired_deltas_is_delta_m_of_the_means():
    random = np.random.default_rng(2)
    scores, reference = random.uniform(1, 2, (5, 3)), random.uniform(1, 2, (5, 3))
    change = relative_change(scores.mean(0), reference.mean(0), HIGHER)
    paired = paired_deltas(scores, reference, HIGHER, TASK_OF)
    assert paired.mean() == pytest.approx(float(delta_m(change, TASK_OF)))


def test_runs_that_move_with_their_reference_leave_delta_m_without_spread():
    reference = np.random.default_rng(3).uniform(1, 2, (5, 3))
    found = paired_delta_m(1.1 * reference, reference, HIGHER, TASK_OF)
    assert found.high - found.low < 1e-9
    apart = paired_delta_m(1.1 * reference[::-1], reference, HIGHER, TASK_OF)
    assert apart.high - apart.low > 10


@pytest.mark.parametrize("shared", [0.0, 0.95])
def test_paired_intervals_cover_as_they_say_whatever_runs_share(shared):
    random = np.random.default_rng(4)
    held = []
    for _ in range(800):
        both = np.sqrt(shared) * random.normal(size=(5, 3))
        arm, base = (both + np.sqrt(1 - shared) * random.normal(size=(5, 3)) for _ in range(2))
        found = paired_delta_m(100 + arm, 100 + base, HIGHER, TASK_OF)
        held.append(found.low <= 0 <= found.high)
    assert 0.93 <= np.mean(held) <= 0.97


def test_a_seed_with_a_gap_on_either_side_is_left_out_of_the_pairs():
    random = np.random.default_rng(5)
    scores, reference = random.uniform(1, 2, (6, 3)), random.uniform(1, 2, (6, 3))
    whole = paired_delta_m(scores[2:], reference[2:], HIGHER, TASK_OF)
    scores[0, 1], reference[1, 2] = np.nan, np.nan
    assert paired_delta_m(scores, reference, HIGHER, TASK_OF) == whole
    scores[3] = reference[4] = np.nan
    few = paired_delta_m(scores, reference, HIGHER, TASK_OF)
    assert few.runs == 2 and np.isfinite(few.value) and np.isnan(few.low)


def test_paired_deltas_of_a_plain_metric_are_differences():
    scores, reference = np.array([[1.2], [1.3], [1.6]]), np.array([[0.0], [0.1], [0.2]])
    found = paired_deltas(scores, reference, np.array([True]), np.array([0]), np.array([True]))
    assert found == pytest.approx([1.2, 1.2, 1.4])


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


def test_mean_interval_is_the_t_interval_of_scipy():
    values = np.array([1.0, 2.5, 2.0, 4.0, 3.0])
    found = mean_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_plain_metric_enters_the_bootstrap_as_a_difference():
    scores = np.array([[1.2], [1.3], [1.4]])
    reference = np.array([[0.0], [0.1], [0.2]])
    one = np.array([0])
    scores = scores + np.array([[0.1], [0.0], [-0.1]])
    found = paired_delta_m(scores, reference, np.array([True]), one, np.array([True]))
    assert found.value == pytest.approx(1.2)
    # Differences of 1.3, 1.2 and 1.1: a t interval of width 2 x 4.303 x 0.1 / sqrt(3).
    assert found.high - found.low == pytest.approx(2 * 4.3027 * 0.1 / 3**0.5, rel=1e-3)


def test_interquartile_mean_drops_a_quarter_at_either_end():
    assert interquartile_mean(np.array([100.0, 1, 2, 3, 4, 5, 6, -100])) == pytest.approx(3.5)


def test_bootstrap_iqm_ignores_one_wild_run_and_holds_the_centre():
    scores = np.random.default_rng(0).normal(5, 1, size=(8, 6))
    scores[0, 0] = 1e6
    found = bootstrap_iqm(scores)
    assert found.low < 5 < found.high and found.high < 7
    assert found.value == pytest.approx(float(stats.trim_mean(scores.ravel(), 0.25)))


def test_bootstrap_iqm_covers_with_five_runs():
    random = np.random.default_rng(5)
    studies = random.normal(size=(400, 5, 3))
    found = [bootstrap_iqm(each, draws=400) for each in studies]
    assert np.mean([each.low <= 0 <= each.high for each in found]) > 0.91


def test_two_runs_give_no_interval_of_the_iqm():
    assert np.isnan(bootstrap_iqm(np.ones((2, 4))).low)
