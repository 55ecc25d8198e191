"""Every method on every route: two ranks with half the batch each are one process with all of it."""

from __future__ import annotations

import pytest
from rank_cases import IDS, Case, options_of, routes, steps_of
from rank_compare import assert_agreed_in_silence, assert_equal_to_one_process
from rank_pool import Pool

import equipoise

MATRIX = [
    pytest.param(
        Case(method, route, call, options_of(method), steps=steps_of(method)),  # type: ignore[arg-type]
        id=f"{method}-{route}-{call}",
    )
    for method in IDS
    for route, call in routes(method)
] + [
    pytest.param(Case(method, "losses", options={"self_optimized": 0.05}), id=f"{method}-by_itself")
    for method in IDS
    if equipoise.method(method).learns
]


@pytest.mark.parametrize("case", MATRIX)
def test_two_ranks_are_one_process(pair: Pool, case: Case) -> None:
    assert_equal_to_one_process(pair, case)


@pytest.mark.parametrize("case", MATRIX)
def test_two_ranks_agree_and_are_told_nothing(pair: Pool, case: Case) -> None:
    assert_agreed_in_silence(pair, case)
