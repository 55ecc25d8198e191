import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from equipoise.problems.language.draws import drawn
from equipoise.problems.language.metrics import Confusion, macro_f1, token_accuracy
from equipoise.problems.language.sequences import Ragged, Sequences
from equipoise.problems.per_task import TaskSampler

ROWS = [[3, 4, 5], [6], [7, 8]]


def test_a_batch_is_padded_to_its_own_longest_row():
    rows = Ragged.of(ROWS, fill=-1)
    assert rows.padded(torch.tensor([2, 1])).tolist() == [[7, 8], [6, -1]]
    assert rows.padded(torch.tensor([0, 1])).tolist() == [[3, 4, 5], [6, -1, -1]]


@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=5), min_size=1, max_size=6))
def test_padding_gives_back_every_row(rows):
    padded = Ragged.of(rows).padded(torch.arange(len(rows)))
    assert [[value for value in row if value] for row in padded.tolist()] == rows


def test_every_row_is_in_an_epoch_once_with_its_own_target():
    data = Sequences(Ragged.of(ROWS), {"a": torch.tensor([3, 6, 7])})
    assert data.steps(1) == 3 and len(data) == 3
    for batch in data.batches(1, seed=5):
        assert batch.inputs[0, 0] == batch.targets["a"][0]
    seen = [int(batch.targets["a"][0]) for batch in data.batches(1, seed=5)]
    assert sorted(seen) == [3, 6, 7]
    assert seen == [int(batch.targets["a"][0]) for batch in data.batches(1, seed=5)]


def test_rows_without_targets_are_refused():
    with pytest.raises(ValueError, match=r"different numbers of rows: \[2, 3\]"):
        Sequences(Ragged.of(ROWS), {"a": torch.zeros(2)})


def test_macro_f1_is_that_of_scikit_learn_whatever_the_batches():
    random = np.random.default_rng(0)
    logits, targets = torch.from_numpy(random.normal(size=(200, 6))), random.integers(0, 5, 200)
    logits[:, 5] = -9  # a class that neither occurs nor is given
    wanted = 100 * f1_score(targets, logits.argmax(1), average="macro")
    score = macro_f1(6).score
    for start in range(0, 200, 60):
        score.update(logits[start : start + 60], torch.from_numpy(targets[start : start + 60]))
    assert score.compute() == pytest.approx(wanted)
    micro = token_accuracy(6).score
    micro.update(logits, torch.from_numpy(targets))
    wanted = 100 * f1_score(targets, logits.argmax(1), average="micro")
    assert micro.compute() == pytest.approx(wanted)


def test_a_metric_forgets_what_it_saw():
    score = Confusion(2, lambda counts: float(counts.sum()))
    score.update(torch.eye(2), torch.tensor([0, 1]))
    score.reset()
    score.update(torch.eye(2), torch.tensor([0, 1]))
    assert score.compute() == 2


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("together", "together"),
        ("proportional", TaskSampler()),
        (5, TaskSampler(temperature=5.0)),
        ({"a": 0.3, "b": 0.7}, TaskSampler(weights={"a": 0.3, "b": 0.7})),
    ],
)
def test_ways_of_sampling(given, wanted):
    assert drawn(given, ["a", "b"]) == wanted


@pytest.mark.parametrize("given", ["apart", 0, -1.0, True, {"a": 1.0}, {"a": 1.0, "b": 0.0}])
def test_other_ways_of_sampling_are_refused(given):
    with pytest.raises(ValueError, match="sampling="):
        drawn(given, ["a", "b"])
