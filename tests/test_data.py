from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

from equipoise.data import MixedBatchSampler, TaskSampler, proportions

SIZES = {"fr": 4000.0, "de": 500.0, "ro": 60.0}


@settings(deadline=None, derandomize=True)
@given(sizes=st.lists(st.floats(1, 1e6), min_size=1, max_size=5), temperature=st.floats(0.5, 100))
def test_proportions_are_powers_of_the_sizes(sizes: list[float], temperature: float) -> None:
    named = {str(i): size for i, size in enumerate(sizes)}
    powers = [size ** (1 / temperature) for size in sizes]
    want = [power / sum(powers) for power in powers]
    assert list(proportions(named, temperature).values()) == pytest.approx(want)


def test_temperature_one_is_proportional_and_infinity_uniform() -> None:
    assert proportions(SIZES)["ro"] == pytest.approx(60 / 4560)
    assert list(proportions(SIZES, math.inf).values()) == pytest.approx([1 / 3] * 3)


def test_huge_sizes_and_small_temperatures_do_not_overflow() -> None:
    shares = proportions({"a": 1e300, "b": 1e299}, temperature=0.01)
    assert shares["a"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("sizes", "temperature", "message"),
    [({}, 1.0, "none"), ({"a": 0.0}, 1.0, "'a'"), ({"a": 1.0}, 0.0, "above 0")],
)
def test_impossible_proportions_are_refused(
    sizes: dict[str, float], temperature: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        proportions(sizes, temperature)


def test_tasks_come_in_their_shares() -> None:
    draws = 20_000
    counts = Counter(TaskSampler(SIZES, batches=draws, temperature=3.0, seed=0))
    for task, share in proportions(SIZES, 3.0).items():
        sigma = math.sqrt(share * (1 - share) / draws)
        assert abs(counts[task] / draws - share) < 5 * sigma


def test_the_seed_governs_the_draws() -> None:
    one, same, other = (list(TaskSampler(SIZES, 50, math.inf, seed=s)) for s in (1, 1, 2))
    assert one == same != other


def test_a_resumed_sampler_draws_on_as_if_it_had_not_stopped() -> None:
    whole = TaskSampler(SIZES, batches=30, temperature=5.0, seed=3)
    want = [*whole, *whole]
    first = TaskSampler(SIZES, batches=30, temperature=5.0, seed=3)
    head = list(itertools.islice(first, 12))
    second = TaskSampler(SIZES, batches=30, temperature=5.0, seed=99)
    second.load_state_dict(first.state_dict())
    assert [*head, *second, *second] == want


def test_a_state_of_other_tasks_is_refused() -> None:
    sampler = TaskSampler({"a": 1, "b": 2}, batches=3)
    with pytest.raises(ValueError, match="same tasks in the same order"):
        sampler.load_state_dict(TaskSampler({"b": 2, "a": 1}, batches=3).state_dict())


def test_loaders_that_end_begin_again() -> None:
    sampler = TaskSampler({"a": 1, "b": 1}, batches=40, seed=0)
    seen: dict[str, list[int]] = {"a": [], "b": []}
    for task, batch in sampler.over({"a": [1, 2, 3], "b": [4]}):
        seen[task].append(batch)
    assert len(seen["a"]) + len(seen["b"]) == 40
    assert seen["a"] == [1 + i % 3 for i in range(len(seen["a"]))]
    assert set(seen["b"]) == {4}


def test_missing_and_empty_loaders_are_named() -> None:
    sampler = TaskSampler({"a": 1, "b": 1}, batches=40, seed=0)
    with pytest.raises(ValueError, match=r"no loader for \['b'\]"):
        next(sampler.over({"a": [1]}))
    with pytest.raises(ValueError, match="'b' is empty"):
        list(sampler.over({"a": [1], "b": []}))


def test_mixed_batches_hold_every_task_and_each_example_once_a_pass() -> None:
    parts = [TensorDataset(torch.arange(n) + 100 * i) for i, n in enumerate((30, 10))]
    sampler = MixedBatchSampler([30, 10], batch_size=8, batches=50, temperature=math.inf, seed=0)
    loader = DataLoader(ConcatDataset(parts), batch_sampler=sampler)
    assert len(loader) == 50
    values = torch.cat([batch for (batch,) in loader]).tolist()
    assert len(values) == 400
    for part, size in ((0, 30), (1, 10)):
        own = [v for v in values if v // 100 == part]
        assert abs(len(own) - 200) < 5 * math.sqrt(100)
        for start in range(0, len(own) - size + 1, size):
            assert len(set(own[start : start + size])) == size


def test_mixed_batches_resume_where_they_stopped() -> None:
    def build(seed: int) -> MixedBatchSampler:
        return MixedBatchSampler([7, 5], batch_size=3, batches=10, seed=seed)

    want = list(build(1))
    first, second = build(1), build(2)
    head = list(itertools.islice(first, 4))
    second.load_state_dict(first.state_dict())
    assert [*head, *second] == want


def test_mixed_batches_refuse_the_state_of_other_data() -> None:
    state = MixedBatchSampler([7, 5], batch_size=3, batches=10).state_dict()
    with pytest.raises(ValueError, match="part 1 of 6 examples"):
        MixedBatchSampler([7, 6], batch_size=3, batches=10).load_state_dict(state)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batches": 0}])
def test_empty_batches_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        MixedBatchSampler([3, 4], **{"batch_size": 2, "batches": 2, **options})
