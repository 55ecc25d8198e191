"""Studies whose truth is known, from trials to sentences: a small run of ``benchmarks/claims.py``."""

import sys
from pathlib import Path

import pytest
from scipy import stats

from equipoise.study.statistics import families

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import claims
from worlds import World


def most(studies):
    """False claims that a rule which errs in 5 % of studies exceeds once in a thousand times."""
    return stats.binom.ppf(0.999, studies, 0.05) / studies


@pytest.fixture(scope="module")
def alike():
    """Nothing differs but learning rates, and runs of a seed share most of their noise."""
    return claims.simulate(World(correlation=0.9, rates="differ"), 30)


@pytest.fixture(scope="module")
def better():
    """The first method is better by two standard deviations of a run."""
    return claims.simulate(World(effect=2.0), 20, first=1000)


def test_where_nothing_differs_few_verdicts_claim_anything(alike):
    assert alike.false <= most(30)


def test_without_a_correction_false_claims_are_found_out(monkeypatch):
    monkeypatch.setattr(families, "holm", lambda p, factors=None: p)
    broken = claims.simulate(World(correlation=0.9, rates="differ"), 20)
    assert broken.false > most(20)


def test_a_method_that_is_better_is_found_more_often_than_by_t_tests(better):
    assert better.found > better.t_found > 0
    assert better.false <= most(20)


def test_intervals_hold_what_they_say_and_no_more(alike):
    assert alike.together >= 0.9
    assert 0.9 <= alike.delta <= 0.985
    assert 0.9 <= alike.metric <= 0.985


def test_a_diverged_seed_claims_nothing():
    lost = claims.simulate(World(diverged="any", tails="t3"), 10, first=2000)
    assert lost.false <= most(10)
