import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import optimize, special, stats

from equipoise.study.statistics import (
    compare,
    holm,
    moderated,
    multipliers,
    paired_tests,
)
from equipoise.study.statistics.families import gated, intervals

values_of = arrays(
    float, st.tuples(st.integers(3, 7), st.integers(3, 6)), elements=st.floats(-50, 50)
)


def draw(seed=0, arms=6, seeds=5, **raised):
    """Values of arms; arm ``a3`` raised by 2 with ``a3=2``."""
    values = np.random.default_rng(seed).normal(size=(arms, seeds))
    for name, by in raised.items():
        values[int(name[1:])] += by
    return values


def one_pair(values, base):
    """The only comparison of a family, by a plain paired t test."""
    return compare(np.stack([base, values]), [0], prior=0.0)[1, 0]


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
    gap = one_pair(values[0], base)
    expected = stats.ttest_rel(values[0], base)
    interval = expected.confidence_interval(0.95)
    assert gap.p == pytest.approx(expected.pvalue)
    assert (gap.low, gap.high) == pytest.approx((interval.low, interval.high))
    assert gap.wins == (values[0] > base).sum()


def test_what_both_arms_share_in_a_seed_does_not_blur_their_difference():
    shared = np.array([0.0, 10.0, -20.0, 5.0, 30.0])
    gap = one_pair(shared + 1 + np.array([0.1, 0, -0.1, 0, 0]), shared)
    assert gap.low > 0.8 and gap.high < 1.2 and gap.shown()


def test_a_pair_with_a_missing_run_is_left_out():
    gap = one_pair(np.array([1.0, np.nan, 3.0]), np.array([0.0, 5.0, 1.0]))
    assert gap.runs == 2 and gap.value == pytest.approx(1.5)


@pytest.mark.parametrize("pairs", [1, 2])
def test_fewer_than_three_pairs_show_nothing(pairs):
    ones = 1 + 1e-6 * np.arange(pairs)
    gap = one_pair(ones, np.zeros(pairs))
    assert np.isnan(gap.p) and np.isnan(gap.low) and not gap.tested and not gap.shown()


def test_equal_runs_show_no_difference():
    gap = one_pair(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 4.0]))
    assert gap.p == 1 and not gap.shown()


def test_holm_of_many_studies_is_that_of_each():
    p = np.random.default_rng(0).uniform(size=(5, 7))
    p[2, 3] = p[4, 0] = np.nan
    assert np.allclose(holm(p), [holm(each) for each in p], equal_nan=True)


def smyth(variance, df):
    """Typical variance and its weight, as in Smyth 2004, equations of section 6.2, solved by bisection."""
    e = np.log(variance) - special.digamma(df / 2) + np.log(df / 2)
    excess = e.var(ddof=1) - special.polygamma(1, df / 2).mean()
    half = optimize.brentq(lambda x: special.polygamma(1, x) - excess, 1e-3, 1e3)
    return np.exp(e.mean() + special.digamma(half) - np.log(half)), 2 * half


def test_moderated_variances_are_those_of_smyth_below_the_limit():
    variance, df = np.array([0.3, 0.5, 1.0, 0.4, 8.0]), np.array([4, 4, 3, 4, 4])
    typical, weight = smyth(variance, df)
    assert 0.2 < weight < 12 and variance[2] < 2 * typical < variance[4]
    moved, left = moderated(variance * df, df)
    expected = (weight * typical + df * variance) / (weight + df)
    assert moved[:4] == pytest.approx(expected[:4], rel=1e-3)
    assert left[:4] == pytest.approx(df[:4] + weight, rel=1e-3)
    assert moved[4] == pytest.approx(8) and left[4] == 4


def test_without_limits_large_variances_shrink_too():
    variance, df = np.array([0.3, 0.5, 1.0, 0.4, 8.0]), np.full(5, 4)
    typical, weight = smyth(variance, df)
    moved, left = moderated(variance * df, df, prior=1000.0, limit=np.inf)
    assert moved == pytest.approx((weight * typical + 4 * variance) / (weight + 4), rel=1e-3)
    assert left == pytest.approx(np.full(5, 4 + weight), rel=1e-3)


def test_alike_variances_borrow_up_to_the_limit():
    _, df = moderated(np.array([4.0, 4.1, 3.9]), np.array([4, 4, 4]))
    assert df == pytest.approx([16, 16, 16])


def test_without_prior_nothing_is_moderated():
    squares, df = np.array([4.0, 8.0, 40.0]), np.array([4, 2, 3])
    variance, left = moderated(squares, df, prior=0.0)
    assert variance == pytest.approx(squares / df) and left == pytest.approx(df)


def test_one_comparison_has_nobody_to_borrow_from():
    variance, df = moderated(np.array([4.0]), np.array([4]))
    assert variance == pytest.approx([1.0]) and df == pytest.approx([4])


def test_a_noisy_arm_is_not_made_to_look_quiet():
    values = draw(arms=8)
    values[5] *= 20
    moderate, plain = paired_tests(values, [0]), paired_tests(values, [0], prior=0.0)
    loud = list(moderate.arm).index(5)
    assert moderate.error[loud] == plain.error[loud] and moderate.df[loud] == 4
    quiet = np.argmin(plain.error)
    assert moderate.error[quiet] > plain.error[quiet] and moderate.df[quiet] > 4


@settings(max_examples=60, deadline=None)
@given(values_of, st.booleans())
def test_an_interval_excludes_zero_exactly_where_the_difference_is_shown(values, gate):
    for gap in compare(values, [0, 1, 2], gate=gate).values():
        if gap.tested:
            assert gap.shown() == (gap.low > 0 or gap.high < 0)
            assert gap.low <= gap.value <= gap.high
        else:
            assert not gap.shown() and np.isnan(gap.low)


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_decisions_and_intervals_agree_where_some_is_shown_only_after_others(seed, gate):
    found = compare(draw(seed, seeds=8, a3=4, a4=3.5, a5=3), [0, 1, 2], gate=gate)
    assert any(gap.shown() for gap in found.values())
    for gap in found.values():
        assert gap.shown() == (gap.low > 0 or gap.high < 0)


def test_some_differences_are_shown_only_because_others_were_first():
    stepped = 0
    for seed in range(20):
        values = draw(seed, seeds=8, a3=2.5, a4=2, a5=1.5)
        first = 0.05 / multipliers(values, [0, 1, 2])[-1]
        stepped += sum(gap.shown() and gap.p > first for gap in compare(values, [0, 1, 2]).values())
    assert stepped > 0


def test_every_pair_of_arm_and_baseline_is_met_once():
    found = compare(draw(arms=5), [2, 0])
    assert set(found) == {(0, 2), (1, 2), (3, 2), (4, 2), (1, 0), (3, 0), (4, 0)}


def test_all_baselines_are_one_family():
    values = draw(arms=5)
    found = compare(values, [0, 1, 2])
    p = np.array([gap.p for gap in found.values()])
    corrected = holm(p, multipliers(values, [0, 1, 2]))
    assert len(p) == 9 and [gap.p_holm for gap in found.values()] == pytest.approx(list(corrected))


def test_a_further_pair_is_in_the_family_and_borrows_from_nobody():
    values = draw(arms=5)
    alone = compare(values[:4], [0, 1])
    found = compare(values, [0, 1], further=[(1, 4)])
    assert set(found) == {*alone, (1, 4)}
    smallest = min(found.values(), key=lambda gap: gap.p)
    factors = multipliers(values, [0, 1], further=[(1, 4)])
    assert len(factors) == len(found)
    assert smallest.p_holm == pytest.approx(min(factors[-1] * smallest.p, 1))
    assert found[2, 0].p == alone[2, 0].p
    assert found[1, 4].p == pytest.approx(float(stats.ttest_rel(values[1], values[4]).pvalue))


def test_gates_keep_the_order_of_the_baselines():
    # Arm 3 equals the first baseline and is far above the second: without gates it is shown.
    values = draw(seeds=8, a0=5, a2=5, a3=5, a4=5, a5=5)
    assert compare(values, [0, 1])[3, 1].shown()
    gated = compare(values, [0, 1], gate=True)
    assert not gated[3, 0].shown() and not gated[3, 1].shown()
    assert gated[3, 1].low <= 0 <= gated[3, 1].high


def test_gates_ask_less_of_the_first_baseline():
    values = draw(seeds=6, a3=2)
    assert (
        compare(values, [0, 1, 2], gate=True)[3, 0].p_holm < compare(values, [0, 1, 2])[3, 0].p_holm
    )


def test_gates_by_hand():
    # Chains of p values: arm 1 .01, .02; arm 2 .03, .2. Arm 1 is through at .04 (.02 of two arms); then arm 2
    # has the whole level: .03 counts once, but not before .04.
    class Tests:
        arm, p = np.array([1, 2, 1, 2]), np.array([0.01, 0.03, 0.02, 0.2])

    assert gated(Tests(), np.arange(1.0, 5.0)) == pytest.approx([0.02, 0.04, 0.04, 0.2])


def test_identical_arms_have_p_one_and_are_not_different():
    values = draw(arms=4)
    values[3] = values[0]
    gap = compare(values, [0])[3, 0]
    assert gap.p == 1 and gap.value == 0 and not gap.shown()


def test_a_constant_gap_borrows_the_spread_of_the_others():
    values = draw(arms=6)
    values[3] = values[0] + 0.1
    gap = compare(values, [0])[3, 0]
    assert gap.p > 0.05 and not gap.shown()


def test_seeds_that_change_nothing_at_all_leave_a_gap_untested():
    values = np.repeat([[0.1], [0.3], [0.7]], 5, axis=1)
    found = compare(values, [0])
    assert not found[1, 0].tested and not found[1, 0].shown()


def test_a_study_that_never_ran_is_untested():
    found = compare(np.full((3, 5), np.nan), [0])
    assert not any(gap.tested for gap in found.values())


def test_one_arm_alone_is_a_study_without_comparisons():
    assert compare(np.ones((1, 5)), [0]) == {}


def test_missing_runs_are_not_counted_in_the_family():
    values = draw(arms=5)
    values[4, :3] = np.nan
    found = compare(values, [0])
    smallest = min((gap for gap in found.values() if gap.tested), key=lambda gap: gap.p)
    factors = multipliers(values, [0])
    assert not found[4, 0].tested and len(factors) == 4
    assert smallest.p_holm == pytest.approx(min(factors[2] * smallest.p, 1))


@pytest.mark.parametrize("arms,seeds,baselines", [(4, 5, [0]), (6, 4, [0, 1]), (9, 8, [0, 1, 2])])
def test_multipliers_hold_the_level_of_what_is_left(arms, seeds, baselines):
    """Other draws than those they come from; five standard errors of slack."""
    values = np.random.default_rng(11).normal(size=(4000, arms, seeds))
    p = paired_tests(values, baselines).p
    factors = multipliers(values, baselines)
    assert len(factors) == p.shape[-1] and (np.diff(factors) >= 0).all()
    aim = 0.05 * (seeds - 1) / (seeds + 1.5)
    slack = 5 * np.sqrt(aim * (1 - aim) / 4000)
    for left in (1, 2, p.shape[-1]):
        part = np.random.default_rng(5).permuted(p, axis=1)[:, :left]
        assert (part.min(-1) * factors[left - 1] <= 0.05).mean() == pytest.approx(aim, abs=slack)


def test_tests_that_borrow_nothing_are_multiplied_by_their_number():
    assert multipliers(draw(arms=4), [0], prior=0.0) == pytest.approx([1, 2, 3])
    assert multipliers(draw(arms=2), [0]) == pytest.approx([1])


def test_families_that_share_a_level_are_larger():
    values = draw(arms=4)
    alone, three = multipliers(values, [0]), multipliers(values, [0], families=3)
    assert len(three) == 9 and three[-1] > 2.5 * alone[-1]


def test_values_in_another_unit_give_the_same_decisions():
    values = draw(a3=2)
    one, other = compare(values, [0, 1]), compare(1e-6 * values, [0, 1])
    assert [gap.p_holm for gap in one.values()] == pytest.approx(
        [gap.p_holm for gap in other.values()]
    )


def test_many_studies_at_once_are_the_studies_one_by_one():
    values = np.stack([draw(seed) for seed in range(4)])
    whole = paired_tests(values, [0, 1])
    for place, each in enumerate(values):
        assert paired_tests(each, [0, 1]).p == pytest.approx(whole.p[place])


@pytest.mark.parametrize("spread", [np.ones(8), np.array([1, 1, 1, 1, 3, 3, 3, 3.0])])
def test_false_claims_and_intervals_keep_their_level(spread):
    """Of 1,500 studies without any effect; five standard errors of slack."""
    values = np.random.default_rng(7).normal(size=(1500, 8, 5)) * spread[:, None]
    tests = paired_tests(values, [0, 1, 2])
    factors = multipliers(values, [0, 1, 2])
    adjusted = holm(tests.p, factors)
    low, high, _ = intervals(tests, adjusted, factors)
    slack = 5 * np.sqrt(0.05 * 0.95 / 1500)
    assert (adjusted <= 0.05).any(-1).mean() < 0.05 + slack
    assert ((low <= 0) & (high >= 0)).all(-1).mean() > 0.95 - slack
