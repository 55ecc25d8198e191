import numpy as np
import pytest
from scipy import stats

from equipoise.study.statistics import variance_shares


def test_shares_of_a_table_without_interaction_by_hand():
    # Rows 0 and 2, columns 0, 3 and 6, added: sums of squares 6 * 1 and 2 * 3 * 6.
    values = np.array([0.0, 2.0])[:, None] + np.array([0.0, 3.0, 6.0])
    shares = variance_shares(values, ["rate", "method"])
    assert shares["rate",] == pytest.approx(6 / 42)
    assert shares["method",] == pytest.approx(36 / 42)
    assert shares["rate", "method"] == pytest.approx(0, abs=1e-12)


def test_shares_add_up_to_one_with_every_interaction():
    values = np.random.default_rng(0).normal(size=(3, 2, 4, 5))
    shares = variance_shares(values, ["rate", "decay", "method", "seed"])
    assert len(shares) == 15 and min(shares.values()) >= 0
    assert sum(shares.values()) == pytest.approx(1)


def test_one_factor_and_repeats_agree_with_the_f_test_of_scipy():
    values = np.random.default_rng(1).normal(size=(4, 6)) + np.arange(4)[:, None]
    shares = variance_shares(values, ["method", "run"])
    within = 1 - shares["method",]
    f = shares["method",] / 3 / (within / 20)
    assert f == pytest.approx(stats.f_oneway(*values).statistic)


@pytest.mark.parametrize(
    ("values", "factors", "said"),
    [
        (np.ones((2, 2)), ["rate"], "1 factors were named"),
        (np.array([[1.0, np.nan], [1.0, 2.0]]), ["rate", "seed"], "1 cells"),
        (np.ones((2, 2)), ["rate", "seed"], "no variance"),
    ],
)
def test_tables_that_cannot_be_taken_apart_are_refused(values, factors, said):
    with pytest.raises(ValueError, match=said):
        variance_shares(values, factors)
