"""Batches from tensors, loaders and data of each task's own."""

from collections import Counter
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from equipoise.problems import (
    Batch,
    ByTask,
    Loader,
    PerTask,
    Problem,
    Task,
    TaskSampler,
    Tensors,
    TrunkAndHeads,
    accuracy,
    rmse,
)
from equipoise.problems.nesting import nested

PADDING = -1


class Pair(NamedTuple):
    one: torch.Tensor
    two: list[torch.Tensor]


def numbered(rows=10, start=0):
    x = torch.arange(start, start + rows).float().unsqueeze(1)
    return Tensors(x, {"a": x.clone()})


def seen(source, size, seed):
    return [int(x) for batch in source.batches(size, seed) for x in batch.targets["a"]]


def test_rows_of_any_nesting_are_taken_together():
    x = torch.arange(6)
    data = Tensors({"p": Pair(x, [x * 10]), "q": (x, "told")}, {"a": x})
    batch = next(iter(data.batches(4, seed=3)))
    assert torch.equal(batch.inputs["p"].one * 10, batch.inputs["p"].two[0])
    assert torch.equal(batch.inputs["q"][0], batch.targets["a"])
    assert batch.inputs["q"][1] == "told" and batch.size == 4
    assert isinstance(batch.inputs["p"], Pair)


def test_every_row_comes_in_order_without_a_seed_and_shuffled_in_full_batches_with_one():
    data = numbered()
    assert seen(data, 4, None) == list(range(10))
    assert [len(b.targets["a"]) for b in data.batches(4, None)] == [4, 4, 2]
    shuffled = seen(data, 4, 1)
    assert len(set(shuffled)) == 8 == data.steps(4) * 4 and shuffled != sorted(shuffled)
    assert shuffled == seen(data, 4, 1) != seen(data, 4, 2)


def test_a_batch_larger_than_the_data_is_all_of_it():
    assert numbered(3).steps(64) == 1 and len(seen(numbered(3), 64, 0)) == 3


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (
            torch.rand(4, 2),
            {"a": torch.rand(3)},
            "targets of 'a' have 3 rows but there are 4 inputs",
        ),
        ([torch.rand(4), torch.rand(5)], {}, "different numbers of rows"),
        ({"x": "text"}, {}, "no tensor among the inputs"),
    ],
)
def test_rows_that_do_not_match_are_refused(inputs, targets, message):
    with pytest.raises(ValueError, match=message):
        Tensors(inputs, targets)


def test_a_torch_loader_is_a_source():
    x, y = torch.rand(10, 3), torch.rand(10)

    def make(size, seed):
        random = None if seed is None else torch.Generator().manual_seed(seed)
        loader = DataLoader(
            TensorDataset(x, y),
            size,
            shuffle=seed is not None,
            generator=random,
            drop_last=seed is not None,
        )
        return Mapped(loader)

    class Mapped:
        def __init__(self, loader):
            self.loader = loader

        def __len__(self):
            return len(self.loader)

        def __iter__(self):
            return ((a, {"a": b}) for a, b in self.loader)

    source = Loader(make, rows=10)
    assert source.steps(4) == 2 and len(source) == 10
    batches = list(source.batches(4, 7))
    assert [batch.size for batch in batches] == [4, 4]
    assert torch.equal(batches[0].inputs, next(iter(source.batches(4, 7))).inputs)


def test_a_loader_that_gives_something_else_says_what_is_wanted():
    with pytest.raises(ValueError, match=r"gave a Tensor; let it give a Batch"):
        list(Loader(lambda size, seed: [torch.rand(3)], rows=3).batches(1, None))


def test_tasks_with_data_of_their_own_come_together_and_the_smaller_begins_again():
    source = PerTask({"a": numbered(12), "b": Tensors(torch.rand(5, 2), {"b": torch.rand(5)})})
    batches = list(source.batches(4, 0))
    assert len(batches) == source.steps(4) == 6
    assert all(set(b.inputs) == set(b.targets) == {"a", "b"} for b in batches)
    assert all(b.size == 4 for b in batches)
    assert {int(x) for b in batches for x in b.targets["a"]} == set(range(12))


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 0.9), (1e9, 0.5), (2.0, 0.75)])
def test_tasks_are_drawn_by_the_power_of_their_size(temperature, share):
    one = Tensors(torch.rand(900, 1), {"a": torch.rand(900)})
    two = Tensors(torch.rand(100, 1), {"b": torch.rand(100)})
    sampler = TaskSampler(temperature)
    assert sampler.probabilities({"a": 900, "b": 100})[0] == pytest.approx(share)
    drawn = Counter()
    for batch in PerTask({"a": one, "b": two}, draw=sampler).batches(2, 0):
        drawn.update(list(batch.targets))
        assert set(batch.inputs) == set(batch.targets) and len(batch.targets) == 1
    assert sum(drawn.values()) == 500
    assert drawn["a"] / 500 == pytest.approx(share, abs=0.06)


def test_tasks_that_are_left_out_have_no_part_in_steps_and_batches():
    def of(name, rows):
        return Tensors(torch.zeros(rows, 2), {name: torch.zeros(rows, 1)})

    def data(split):
        return PerTask({"a": of("a", 40), "b": of("b", 20), "c": of("c", 400)})

    whole = Problem(
        name="apart",
        tasks=tuple(
            Task(name=name, loss=nn.functional.mse_loss, metrics=(rmse(),)) for name in "abc"
        ),
        data=data,
        model=lambda names: TrunkAndHeads(nn.Linear(2, 3), {n: nn.Linear(3, 1) for n in names}),
    )
    assert whole.source("train").steps(12) == 100
    part = whole.only(["a", "b"]).source("train")
    assert part.steps(12) == 6 and len(part) == 60
    batch = next(iter(part.batches(12, 0)))
    assert set(batch.inputs) == {"a", "b"} and batch.size == 12
    # A single-task network has the rows of its task, and no others are counted.
    assert batch.only(["a"]).size == 6
    drawn = PerTask(data("train").sources, TaskSampler(weights={"a": 1.0, "b": 3.0, "c": 9.0}))
    chances = drawn.only(["a", "b"]).draw.probabilities({"a": 40, "b": 20})
    assert chances.tolist() == [0.25, 0.75]


def test_a_sampler_wants_a_weight_of_every_task():
    with pytest.raises(ValueError, match="for each of a, b"):
        TaskSampler(weights={"a": 1.0}).probabilities({"a": 1, "b": 1})
    assert TaskSampler(weights={"a": 3, "b": 1}).probabilities({"a": 1, "b": 1})[0] == 0.75


def test_a_batch_moves_with_all_it_holds():
    class Graph:
        def to(self, device):
            return f"graph on {device}"

    batch = Batch({"g": Graph(), "x": torch.rand(2)}, {"a": torch.rand(2)}, 2).to("meta")
    assert batch.inputs["g"] == "graph on meta" and batch.targets["a"].is_meta
    own = nested(lambda t: t + 1, ByTask({"a": torch.zeros(1)}))
    assert isinstance(own, ByTask) and own["a"] == 1


# --- labels that are missing ----------------------------------------------------------------------


def problem_with(missing, losses=None):
    tasks = tuple(
        Task(name=n, loss=nn.functional.mse_loss, metrics=(rmse(),), missing=missing) for n in "ab"
    )

    def model(names):
        return TrunkAndHeads(nn.Linear(2, 3), {name: nn.Linear(3, 1) for name in names})

    return Problem(name="p", tasks=tasks, data=lambda _: None, model=model, losses=losses)


@pytest.mark.parametrize(
    ("missing", "gap"),
    [(float("nan"), torch.nan), (-1.0, -1.0), (lambda y: y.squeeze(1) > 5, 9.0)],
    ids=["nan", "value", "function"],
)
def test_rows_without_a_label_are_left_out_and_a_task_without_any_is_absent(missing, gap):
    torch.manual_seed(0)
    built = problem_with(missing)
    model, x, y = built.model(["a", "b"]), torch.rand(4, 2), torch.rand(4, 1)
    holes = y.clone()
    holes[1] = holes[3] = gap
    found = built.losses_of(model, Batch(x, {"a": holes, "b": torch.full((4, 1), gap)}, 4))
    want = nn.functional.mse_loss(model(x)["a"][[0, 2]], y[[0, 2]])
    assert set(found) == {"a"} and torch.equal(found["a"], want)


def test_a_task_that_is_not_in_the_batch_is_absent():
    built = problem_with(None)
    found = built.losses_of(
        built.model(["a", "b"]), Batch(torch.rand(4, 2), {"b": torch.rand(4, 1)}, 4)
    )
    assert set(found) == {"b"}


def test_inputs_of_their_own_go_through_the_network_one_task_after_the_other():
    built = problem_with(None)
    model = built.model(["a", "b"])
    xs = {name: torch.rand(rows, 2) for name, rows in (("a", 3), ("b", 5))}
    ys = {name: torch.rand(len(x), 1) for name, x in xs.items()}
    found = built.losses_of(model, Batch(ByTask(xs), ys, 8))
    for name in "ab":
        assert torch.equal(found[name], nn.functional.mse_loss(model(xs[name])[name], ys[name]))


def test_a_model_that_forgets_a_task_is_told():
    built = problem_with(None)
    with pytest.raises(ValueError, match="gave no output for task 'b'; it gave: a"):
        built.losses_of(built.model(["a"]), Batch(torch.rand(1, 2), {"b": torch.rand(1, 1)}, 1))


def test_odd_problems_compute_their_losses_themselves():
    def odd(model, batch, share):
        z = model.trunk(batch.inputs)
        return {"a": z.square().mean(), "b": z.abs().mean()}

    built = problem_with(None, losses=odd)
    model = built.model(["a", "b"])
    found = built.losses_of(model, Batch(torch.ones(1, 2), {}, 1))
    assert torch.equal(found["a"], model.trunk(torch.ones(1, 2)).square().mean())


def test_where_a_row_has_many_labels_only_those_that_are_missing_are_left_out():
    """As in a padded sentence: three of five words have a tag."""
    task = Task(
        name="tags", loss=nn.functional.cross_entropy, metrics=(accuracy(),), missing=PADDING
    )
    outputs = torch.randn(2, 3, 4)
    tags = torch.tensor([[2, PADDING, PADDING], [0, 3, PADDING]])
    out, target, count = task.labelled(outputs, tags)
    assert torch.equal(out, torch.stack([outputs[0, 0], outputs[1, 0], outputs[1, 1]]))
    assert target.tolist() == [2, 0, 3] and count == 3
    want = nn.functional.cross_entropy(outputs.movedim(-1, 1), tags, ignore_index=PADDING)
    torch.testing.assert_close(task.loss_of(out, target), want)


def test_labels_of_full_batches_have_the_shape_of_those_with_gaps():
    task = Task(name="t", loss=nn.functional.cross_entropy, metrics=(accuracy(),), missing=PADDING)
    out, target, count = task.labelled(torch.randn(2, 3, 4), torch.ones(2, 3).long())
    assert out.shape == (6, 4) and target.shape == (6,) and count == 6


def test_labels_that_fit_no_output_are_told_with_both_shapes():
    task = Task(name="seg", loss=nn.functional.cross_entropy, metrics=(accuracy(),), missing=-1)
    with pytest.raises(ValueError, match=r"'seg' has labels \[2, 3, 3\].* \[2, 4, 3, 3\]"):
        task.labelled(torch.randn(2, 4, 3, 3), torch.ones(2, 3, 3).long())


def test_a_value_that_is_missing_needs_one_tensor_of_targets():
    task = Task(name="t", loss=nn.functional.mse_loss, metrics=(rmse(),), missing=float("nan"))
    with pytest.raises(ValueError, match="task 't' needs one tensor of targets, not a dict"):
        task.labelled(torch.rand(2, 1), {"y": torch.rand(2, 1)})


# --- shortcuts ------------------------------------------------------------------------------------


def pairs(batch):
    return torch.stack(batch), {"a": torch.stack(batch)[:, 0]}


def test_a_loader_over_a_dataset_shuffles_by_the_seed_and_keeps_every_row_without_one():
    source = Loader.over(list(torch.arange(10.0).unsqueeze(1)), collate_fn=pairs)
    assert len(source) == 10 and seen(source, 4, None) == list(range(10))
    shuffled = seen(source, 4, 1)
    assert shuffled == seen(source, 4, 1) != seen(source, 4, 2)
    assert len(set(shuffled)) == 8 == 4 * source.steps(4)


def test_a_loader_over_less_than_a_batch_gives_all_of_it():
    source = Loader.over(list(torch.arange(3.0).unsqueeze(1)), collate_fn=pairs)
    assert source.steps(64) == 1 and sorted(seen(source, 64, 0)) == [0, 1, 2]


def test_a_table_is_divided_once_and_every_row_is_in_one_split():
    data = numbered(50).divided(validation=0.2, test=0.3)
    splits = {name: seen(data(name), 64, None) for name in ("train", "validation", "test")}
    assert [len(rows) for rows in splits.values()] == [25, 10, 15]
    assert sorted(row for rows in splits.values() for row in rows) == list(range(50))
    again = numbered(50).divided(validation=0.2, test=0.3)
    assert seen(again("test"), 64, None) == splits["test"]
    assert seen(numbered(50).divided(0.2, 0.3, seed=1)("test"), 64, None) != splits["test"]


def test_a_table_too_small_to_divide_is_refused():
    with pytest.raises(ValueError, match=r"3 rows with validation=0\.2 .* a split without any"):
        numbered(3).divided()
