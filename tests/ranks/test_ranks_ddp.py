"""DistributedDataParallel in all its ways: its options, accumulation, and what it is put around."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from rank_cases import SAMPLE, Case, sample
from rank_compare import assert_agreed_in_silence, assert_equal_to_one_process, reference
from rank_pool import Pool

SETTINGS = {
    "static_graph": {"static_graph": True},
    "find_unused": {"find_unused_parameters": True},
    "bucket_view": {"gradient_as_bucket_view": True},
    "tiny_buckets": {"bucket_cap_mb": 1e-4},
    "all_views": {"gradient_as_bucket_view": True, "static_graph": True, "bucket_cap_mb": 1e-4},
}


# Every option beside one method of each kind; the other methods take turns.
FAMILIES = ("uw", "mgda", "graddrop")
OTHERS = tuple(method for method in SAMPLE if method not in FAMILIES)


def with_settings(settings: Sequence[str], **more: Any) -> list[Any]:
    turns = itertools.cycle(settings)
    pairs = [(case, setting) for case in sample(FAMILIES, **more) for setting in settings]
    pairs += [(case, next(turns)) for case in sample(OTHERS, **more)]
    return [
        pytest.param(*case.values, setting, id=f"{case.id}-{setting}") for case, setting in pairs
    ]


@pytest.mark.parametrize(("case", "setting"), with_settings(tuple(SETTINGS), steps=3))
def test_options_change_nothing(pair: Pool, case: Case, setting: str) -> None:
    assert_equal_to_one_process(pair, case.but(ddp=SETTINGS[setting]))


@pytest.mark.parametrize(
    ("case", "setting"), with_settings(("plain", *SETTINGS), layout="outputs", steps=3)
)
def test_losses_may_be_computed_outside_the_module(pair: Pool, case: Case, setting: str) -> None:
    assert_equal_to_one_process(pair, case.but(ddp=SETTINGS.get(setting, {})))


@pytest.mark.parametrize("case", sample(layout="balanced", calls=("scalar",), steps=3))
def test_the_balancer_may_be_part_of_the_module(pair: Pool, case: Case) -> None:
    """As in trainers whose training step is inside."""
    assert_equal_to_one_process(pair, case)
    assert_agreed_in_silence(pair, case)


@pytest.mark.parametrize("setting", ["plain", *SETTINGS])
@pytest.mark.parametrize("options", [{}, {"self_optimized": 0.05}], ids=["yours", "own"])
def test_learned_weights_of_the_module_that_its_forward_does_not_use(
    pair: Pool, options: dict[str, Any], setting: str
) -> None:
    """The module owns the balancer, and the loop calls it with what the module returns."""
    case = Case(
        "uw", "losses", options=options, layout="owned", steps=3, ddp=SETTINGS.get(setting, {})
    )
    if setting == "find_unused" and not options:
        for outcome in pair.run(case):
            assert [step for step, _ in outcome.errors] == [0]
            assert "balancer.param_groups()" in outcome.errors[0][1]
            assert "find_unused_parameters" in outcome.errors[0][1]
    else:
        assert_equal_to_one_process(pair, case)


@pytest.mark.parametrize("case", sample(micro=2, steps=3))
def test_batches_may_be_accumulated_without_synchronising(pair: Pool, case: Case) -> None:
    assert_equal_to_one_process(pair, case)


@pytest.mark.parametrize("case", sample(micro=2, steps=3, ddp=SETTINGS["bucket_view"]))
def test_accumulation_in_the_buckets(pair: Pool, case: Case) -> None:
    assert_equal_to_one_process(pair, case)


@pytest.mark.parametrize("case", sample(balancers=2, calls=("scalar",), steps=3))
def test_two_balancers_in_one_step(pair: Pool, case: Case) -> None:
    assert_equal_to_one_process(pair, case)
    assert_agreed_in_silence(pair, case)


@pytest.mark.parametrize("case", sample(factor=64.0, calls=("scalar",), steps=2))
def test_the_balanced_loss_may_be_scaled(pair: Pool, case: Case) -> None:
    assert_equal_to_one_process(pair, case)


@pytest.mark.parametrize("case", sample(calls=("scalar",), steps=3))
def test_metrics_are_those_of_the_whole_batch(pair: Pool, case: Case) -> None:
    want = reference(case).metrics
    for outcome in pair.run(case):
        assert outcome.metrics == pytest.approx(want, rel=1e-6, abs=1e-12)
