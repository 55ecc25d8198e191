"""Fully sharded parameters (FSDP2)."""

from __future__ import annotations

import pytest
from rank_cases import Case, needs, sample
from rank_compare import assert_agreed_in_silence, assert_equal_to_one_process
from rank_pool import Pool

GRAMIAN = ("mgda", "pcgrad", "cagrad", "nash_mtl", "aligned_mtl", "rgw")


def sharded(route: str, methods: tuple[str, ...], call: str, **more: object) -> list[object]:
    return [
        p
        for p in sample(methods, (call,), wrapper="fsdp", steps=3, **more)
        if p.values[0].route == route
    ]


@pytest.mark.parametrize("case", sharded("losses", ("ew", "uw", "rlw", "famo", "dwa"), "scalar"))
def test_losses(pair: Pool, case: Case) -> None:
    assert_equal_to_one_process(pair, case)
    assert_agreed_in_silence(pair, case)


@pytest.mark.parametrize("case", sharded("features", (*GRAMIAN, "graddrop"), "scalar"))
@pytest.mark.parametrize("layout", ["losses", "outputs"])
def test_features(pair: Pool, case: Case, layout: str) -> None:
    assert_equal_to_one_process(pair, case.but(layout=layout))
    assert_agreed_in_silence(pair, case.but(layout=layout))


@pytest.mark.parametrize("heads", ["weighted", "unweighted"])
@pytest.mark.parametrize("case", sharded("features", GRAMIAN, "scalar"))
def test_features_and_heads(pair: Pool, case: Case, heads: str) -> None:
    assert_equal_to_one_process(pair, case.but(options={"heads": heads}))


@pytest.mark.parametrize("heads", ["weighted", "unweighted"])
@pytest.mark.parametrize("case", sharded("parameters", GRAMIAN, "backward"))
def test_parameters_by_one_sharded_pass_a_task(pair: Pool, case: Case, heads: str) -> None:
    case = case.but(options={"heads": heads})
    assert_equal_to_one_process(pair, case)
    assert_agreed_in_silence(pair, case)


@pytest.mark.parametrize("case", sharded("parameters", (*GRAMIAN, "graddrop"), "scalar"))
def test_parameters_by_the_scalar_are_exact_or_refused(pair: Pool, case: Case) -> None:
    got = pair.run(case)
    if any(outcome.errors for outcome in got):
        for outcome in got:
            assert [step for step, _ in outcome.errors] == [0]
            told = outcome.errors[0][1].split("\n")[0]
            # What balancer.backward cannot do either says why instead.
            cure = f"'{case.method}'" if needs(case.method) == "jacobian" else "balancer.backward"
            assert cure in told
    else:
        assert_equal_to_one_process(pair, case)


@pytest.mark.parametrize("case", sharded("parameters", ("graddrop", "trimmed_mean"), "backward"))
def test_methods_of_single_entries_are_exact_or_refused(pair: Pool, case: Case) -> None:
    assert needs(case.method) == "jacobian"
    got = pair.run(case)
    if any(outcome.errors for outcome in got):
        for outcome in got:
            assert [step for step, _ in outcome.errors] == [0]
            assert f"'{case.method}'" in outcome.errors[0][1].split("\n")[0]
    else:
        assert_equal_to_one_process(pair, case)
