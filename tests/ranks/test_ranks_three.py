"""Three ranks, the parts of the batch alike or not."""

from __future__ import annotations

import pytest
from rank_cases import Case, sample
from rank_compare import assert_agreed_in_silence, assert_equal_to_one_process
from rank_pool import Pool

UNUSED = {"find_unused_parameters": True}


@pytest.mark.parametrize("case", sample(steps=3))
def test_three_ranks_are_one_process(trio: Pool, case: Case) -> None:
    assert_equal_to_one_process(trio, case)
    assert_agreed_in_silence(trio, case)


@pytest.mark.parametrize("case", sample(sizes=(6, 4, 2), weight="number", steps=3))
def test_three_parts_of_unlike_size(trio: Pool, case: Case) -> None:
    assert_equal_to_one_process(trio, case)


@pytest.mark.parametrize(
    "case",
    sample(
        weight="mapping", steps=3, ddp=UNUSED, unlabelled=((1, "left", 4, 8), (2, "right", 3, 12))
    ),
)
def test_a_task_absent_on_some_of_three_ranks(trio: Pool, case: Case) -> None:
    assert_equal_to_one_process(trio, case)


@pytest.mark.parametrize(
    "case",
    sample(options={"nonfinite": "skip_task"}, steps=3, ddp=UNUSED, broken=((1, "right", 5),)),
)
def test_a_loss_broken_on_one_of_three_ranks(trio: Pool, case: Case) -> None:
    assert_equal_to_one_process(trio, case)
