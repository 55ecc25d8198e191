"""Ranks with unlike batches: other sizes, missing labels, losses that are not finite."""

from __future__ import annotations

import pytest
from rank_cases import SAMPLE, Case, sample
from rank_compare import (
    assert_agreed_in_silence,
    assert_equal_to_one_process,
    assert_told_everywhere,
)
from rank_pool import Pool

UNUSED = {"find_unused_parameters": True}
# Step 1: half a rank's labels of one task; step 2: none on rank 1; step 3: none on rank 0, and another
# task's are gone everywhere.
HOLES = (
    (1, "left", 2, 5),
    (2, "right", 6, 12),
    (3, "rebuild", 0, 6),
    (3, "left", 0, 12),
)
ABSENT = ((1, "right", 6, 12), (2, "rebuild", 0, 6), (3, "left", 0, 12))


@pytest.mark.parametrize("case", sample(sizes=(8, 4), weight="number", steps=3))
def test_parts_of_unlike_size_count_by_their_examples(pair: Pool, case: Case) -> None:
    assert_equal_to_one_process(pair, case)
    assert_agreed_in_silence(pair, case)


@pytest.mark.parametrize("case", sample(sizes=(7, 5), weight="mapping", steps=3))
def test_examples_may_be_told_task_by_task(pair: Pool, case: Case) -> None:
    assert_equal_to_one_process(pair, case)


@pytest.mark.parametrize("case", sample(weight="mapping", steps=4, unlabelled=HOLES, ddp=UNUSED))
def test_tasks_count_by_their_labels(pair: Pool, case: Case) -> None:
    assert_equal_to_one_process(pair, case)
    assert_agreed_in_silence(pair, case)


@pytest.mark.parametrize("case", sample(steps=4, unlabelled=ABSENT, ddp=UNUSED))
def test_a_task_absent_on_one_rank_is_the_others_alone(pair: Pool, case: Case) -> None:
    """Without numbers of examples, the ranks that have the task count alike."""
    assert_equal_to_one_process(pair, case)


def broken(nonfinite: str, ddp: dict[str, bool], **more: object) -> list[object]:
    return sample(
        SAMPLE,
        options={"nonfinite": nonfinite},
        broken=((1, "right", 9), (3, "rebuild", 0)),
        ddp=ddp,
        steps=4,
        **more,
    )


@pytest.mark.parametrize("case", broken("skip_task", UNUSED))
def test_a_broken_loss_is_left_out_on_all_ranks(pair: Pool, case: Case) -> None:
    assert_equal_to_one_process(pair, case)
    assert_agreed_in_silence(pair, case)


@pytest.mark.parametrize("case", broken("skip_task", {}))
def test_a_broken_loss_leaves_no_gradient_waited_for(pair: Pool, case: Case) -> None:
    """Its head gets no gradient on any rank, which DDP takes for unfinished if nobody tells it."""
    assert_equal_to_one_process(pair, case)


@pytest.mark.parametrize("case", broken("skip_step", {}))
def test_a_step_is_skipped_on_all_ranks(pair: Pool, case: Case) -> None:
    assert_equal_to_one_process(pair, case)
    assert_agreed_in_silence(pair, case)


@pytest.mark.parametrize("case", sample(broken=((1, "right", 9),), steps=3, go_on=True))
def test_a_broken_loss_is_told_on_all_ranks_and_training_can_go_on(pair: Pool, case: Case) -> None:
    assert_told_everywhere(pair, case, 1, "NonFiniteError", "'right'", "not finite")
