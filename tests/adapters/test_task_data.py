"""Which task a batch is of, and which examples."""

from __future__ import annotations

from itertools import islice

import pytest

from equipoise.adapters.task_data import TaskBatches, TaskData


def test_round_robin_takes_turns_and_repeats_the_small_one() -> None:
    order = TaskBatches({"a": 6, "b": 2}, 2, "round_robin")
    got = list(order)
    assert len(got) == len(order) == 4
    assert [max(batch) < 6 for batch in got] == [True, False, True, False]
    assert sorted(got[1]) == sorted(got[3]) == [6, 7]


def test_a_high_temperature_evens_the_shares_out() -> None:
    def share(sampling: float) -> float:
        order = TaskBatches({"a": 900, "b": 100}, 1, sampling, batches=2000)
        return sum(batch[0] < 900 for batch in order) / 2000

    assert share(1.0) == pytest.approx(0.9, abs=0.03)
    assert share(float("inf")) == pytest.approx(0.5, abs=0.04)


def test_processes_that_share_a_step_get_the_same_task() -> None:
    order = TaskBatches({"a": 40, "b": 40}, 4, together=2)
    tasks = [batch[0] < 40 for batch in order]
    assert tasks[::2] == tasks[1::2]
    assert len(set(tasks)) == 2


def test_accelerate_hands_each_process_its_own_half() -> None:
    shard = pytest.importorskip("accelerate.data_loader").BatchSamplerShard
    order = TaskBatches({"a": 40, "b": 40}, 4, together=2)
    mine, theirs = (list(shard(order, 2, rank)) for rank in range(2))
    assert [batch[0] < 40 for batch in mine] == [batch[0] < 40 for batch in theirs]
    assert mine != theirs and len(mine) == len(theirs) == 10


def test_a_pass_has_every_example_once_and_epochs_differ() -> None:
    epoch = [0]
    order = TaskBatches({"a": 12}, 3, epoch=lambda: epoch[0])
    first = [i for batch in order for i in batch]
    epoch[0] = 1
    second = [i for batch in order for i in batch]
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="'robin' is unknown"):
        TaskBatches({"a": 3}, 1, "robin")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="data set of task 'b' is empty"):
        TaskData({"a": [1], "b": []})
    with pytest.raises(ValueError, match="no data sets"):
        TaskData({})
    assert list(islice(TaskBatches({"a": 1}, 2), 1)) == [[0, 0]]
