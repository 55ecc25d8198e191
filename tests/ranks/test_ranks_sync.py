"""What is shared: everything, Gramians only, or nothing; and solvers that fail."""

from __future__ import annotations

import pytest
from rank_by_hand import run_by_hand
from rank_cases import Case
from rank_compare import (
    assert_agreed_in_silence,
    assert_equal_to_one_process,
    assert_no_errors,
    assert_same_run,
    assert_told_everywhere,
)
from rank_pool import Pool
from rank_training import BUILDING

GRAMIAN = ("mgda", "pcgrad", "cagrad", "nash_mtl", "aligned_mtl")


@pytest.mark.parametrize("method", GRAMIAN)
def test_common_gramians_give_common_weights(pair: Pool, method: str) -> None:
    case = Case(method, "parameters", options={"sync": "gramian"})
    got = pair.run(case)
    assert_no_errors(got)
    want = run_by_hand(case, 2, common_gramian=True)
    for rank in (0, 1):
        assert_same_run(got[rank], want[rank], f"rank {rank}")
    assert_agreed_in_silence(pair, case)


@pytest.mark.parametrize("method", ["ew", "rlw", "uw_so", "dwa", *GRAMIAN])
def test_alone_every_rank_has_its_own_weights(pair: Pool, method: str) -> None:
    case = Case(method, "losses", options={"sync": "local"})
    if method in GRAMIAN:
        case = case.but(route="parameters")
    got = pair.run(case)
    assert_no_errors(got)
    for rank, want in enumerate(run_by_hand(case, 2, common_gramian=False)):
        assert_same_run(got[rank], want, f"rank {rank}")
    if method != "ew":
        assert got[0].weights != got[1].weights


def test_a_sync_that_does_not_exist_is_refused(pair: Pool) -> None:
    for outcome in pair.run(Case("mgda", "parameters", options={"sync": "now and then"})):
        ((step, error),) = outcome.errors
        assert step == BUILDING and error.startswith("ValueError: sync='now and then'")


@pytest.mark.parametrize("how", ["always", "losses"])
@pytest.mark.parametrize("route", ["parameters", "features"])
def test_a_solver_that_fails_keeps_the_weights_on_all_ranks(
    pair: Pool, route: str, how: str
) -> None:
    """``losses``: it fails where one rank's loss is large and that of the whole batch is not."""
    case = Case("mgda", route, options={"on_failure": "keep"}, failing=how)  # type: ignore[arg-type]
    assert_equal_to_one_process(pair, case)
    assert_agreed_in_silence(pair, case)


@pytest.mark.parametrize("call", ["scalar", "backward"])
def test_a_failure_is_told_on_all_ranks(pair: Pool, call: str) -> None:
    case = Case("mgda", "parameters", call, failing="always", go_on=True)  # type: ignore[arg-type]
    assert_told_everywhere(pair, case, 2, "SolverError", "told to fail")


@pytest.mark.parametrize("call", ["scalar", "backward"])
@pytest.mark.parametrize("method", ["mgda", "pcgrad", "graddrop", "db_mtl"])
def test_all_tasks_at_once_down_a_chain_of_layers(pair: Pool, method: str, call: str) -> None:
    chained = Case(method, "parameters", call, enough=2)  # type: ignore[arg-type]
    assert_equal_to_one_process(pair, chained)
    assert_agreed_in_silence(pair, chained)
    for one, other in zip(pair.run(chained), pair.run(chained.but(enough=4)), strict=True):
        assert_same_run(one, other, "without the chain")


@pytest.mark.parametrize("method", ["mgda", "upgrad"])
def test_task_gradients_that_are_not_kept(pair: Pool, method: str) -> None:
    kept = Case(method, "parameters", "scalar", {"sync": "gramian"})
    dropped = kept.but(options={"sync": "gramian", "memory": "low"})
    for one, other in zip(pair.run(dropped), pair.run(kept), strict=True):
        assert not one.errors
        assert_same_run(one, other, "kept")
    (step, told), *_ = pair.run(kept.but(options={"memory": "low"}))[0].errors
    assert step == 0
    assert "use sync='gramian'" in told
