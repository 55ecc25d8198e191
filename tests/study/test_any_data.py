"""Trials on data and networks of every shape, and with parts of the user's own."""

import json
import warnings
from dataclasses import replace

import odd
import pytest
from torch.optim.lr_scheduler import CosineAnnealingLR

from equipoise.study import Trial
from equipoise.study.measuring import JOINT
from equipoise.study.train import TEST_AT_BEST, run
from equipoise.study.trial import with_options

TRIAL = Trial(
    problem=f"{odd.HERE}:mapping",
    method="ew",
    stage="final",
    seed=0,
    learning_rate=0.01,
    epochs=3,
    batch_size=16,
)
SHAPES = {
    "mapping": {},
    "loader": {},
    "per_task": {},
    "sampled": {"sampled": True},
    "gaps": {},
    "measured": {},
    "odd_losses": {},
}
# One of each way to train: losses, gradients, several batches, two levels, learned, after the step.
METHODS = ("ew", "uw", "mgda", "pcgrad", "modo", "moml", "famo", "db_mtl")


def of(name, **changes):
    function = "per_task" if name == "sampled" else name
    return replace(
        TRIAL,
        problem=f"{odd.HERE}:{function}",
        problem_options=with_options(SHAPES.get(name, {})),
        **changes,
    )


def curve(result, split, task="a", metric="loss"):
    found = [r for r in result.metrics if (r.split, r.task, r.metric) == (split, task, metric)]
    return [row.value for row in sorted(found, key=lambda row: row.epoch)]


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_of_data_trains_and_is_measured(name):
    result = run(of(name, epochs=8, learning_rate=0.03))
    assert result.status == "done", result.note
    assert curve(result, "train", "b")[-1] < curve(result, "train", "b")[0]
    assert {(row.task, row.split) for row in result.metrics if row.metric != "loss"} >= {
        (task, split) for task in "ab" for split in ("validation", "test")
    }
    assert result == replace(run(of(name, epochs=8, learning_rate=0.03)), cost=result.cost)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["mapping", "loader", "gaps"])
def test_every_kind_of_method_trains_on_it(name, method):
    result = run(of(name, method=method))
    assert result.status == "done", result.note
    assert result.initial == run(of(name)).initial


@pytest.mark.parametrize("method", METHODS)
def test_every_method_sees_the_same_examples_in_a_step(method):
    assert run(of("mapping", method=method)).order == run(of("mapping")).order


def test_a_single_task_network_reads_its_own_data_only():
    result = run(of("per_task", method="stl", task="b"))
    assert result.status == "done" and {row.task for row in result.metrics} == {"b"}


def test_the_schedule_ends_with_the_training_though_some_steps_have_no_label(monkeypatch):
    rates = []
    step = CosineAnnealingLR.step

    def noted(self, *given):
        step(self, *given)
        rates.append(self.get_last_lr()[0])

    monkeypatch.setattr(CosineAnnealingLR, "step", noted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run(of("sampled", method="stl", task="b"))
    assert result.status == "done", result.note
    assert rates[-1] == pytest.approx(0, abs=1e-12) and min(rates[:-1]) > 1e-12


def test_a_task_without_any_label_in_a_split_is_named():
    trial = replace(of("gaps"), problem_options=with_options({"none_in": "validation"}))
    with pytest.raises(ValueError, match="task 'b' has no label in this split"):
        run(trial)


@pytest.mark.parametrize("method", ["ew", "rlw", "mgda", "pcgrad", "uw", "rgw", "graddrop"])
def test_masks_of_dropout_are_the_same_under_every_method(method, monkeypatch):
    seen = {}
    build = odd.masked

    for name in ("ew", method):
        from equipoise.problems import catalogue

        built = build()
        monkeypatch.setattr(catalogue, "builder", lambda _, built=built: lambda: built)
        monkeypatch.setattr("equipoise.study.train.problem", lambda *_, built=built, **__: built)
        built.model.masks = []
        run(of("masked", method=name))
        seen[name] = list(built.model.masks)
    assert len(set(seen["ew"])) > 3
    assert seen[method] == seen["ew"]


def test_metrics_that_see_batches_and_metrics_of_all_tasks_are_written_down():
    result = run(of("measured"))
    assert curve(result, "test", "a", "worst")[0] >= curve(result, "test", "a", "mae")[0] > 0
    assert curve(result, "test", JOINT, "gap")[0] > 0
    single = run(of("measured", method="stl", task="a"))
    assert not curve(single, "test", JOINT, "gap")


# --- parts of the user's own ----------------------------------------------------------------------


def test_a_method_of_ones_own_is_a_class_in_a_file():
    given = of("mapping", method=f"{odd.HERE}:Half", method_options='{"share":0.25}')
    weights = {row.task: row.mean for row in run(given).weights if row.epoch == 1}
    assert weights == pytest.approx({"a": 0.75, "b": 0.25})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": f"{odd.HERE}:plain"}, "is no method: derive the class"),
        ({"method": f"{odd.HERE}:Half", "method_options": '{"part":1}'}, r"it takes: share"),
        ({"method": f"{odd.HERE}:Nothing"}, "has no function 'Nothing', which method"),
        ({"arguments": '{"updat_every":2}'}, "updat_every"),
        ({"optimizer": f"{odd.HERE}:numbers"}, "numbers"),
    ],
)
def test_a_mistake_in_a_part_of_ones_own_is_told(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        run(of("mapping", **changes))


def test_arguments_of_the_balancer_reach_it():
    floors = {"weight_floor": 0.45, "update_every": 3}
    given = of("mapping", method="rlw", arguments=json.dumps(floors))
    weights = run(given).weights
    assert all(row.mean > 0.4499 for row in weights)
    assert weights != run(of("mapping", method="rlw")).weights


def test_optimizer_and_schedule_of_ones_own():
    usual = run(of("mapping", optimizer="sgd", schedule="constant"))
    own = run(of("mapping", optimizer=f"{odd.HERE}:momentum_free", schedule="constant"))
    halved = run(
        of("mapping", optimizer=f"{odd.HERE}:momentum_free", schedule=f"{odd.HERE}:Halving")
    )
    ends = [curve(each, "train")[-1] for each in (usual, own, halved)]
    assert len(set(ends)) == 3


# --- checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["loss", "a/rmse", "b/rmse"])
def test_test_numbers_are_taken_at_the_best_epoch_on_validation_too(by):
    # A large rate, so that the last epoch is not the best one.
    trial = of("mapping", learning_rate=0.3, epochs=8, schedule="constant", checkpoint=by)
    result = run(trial)
    if by == "loss":
        seen = [
            -sum(pair) for pair in zip(*(curve(result, "validation", t) for t in "ab"), strict=True)
        ]
    else:
        seen = [-value for value in curve(result, "validation", by[0], "rmse")]
    best = 1 + max(range(8), key=seen.__getitem__)
    at = {row.epoch for row in result.metrics if row.split == TEST_AT_BEST}
    assert at == {best}
    short = run(replace(trial, epochs=best, checkpoint="last"))
    assert curve(result, TEST_AT_BEST) == curve(short, "test")
    assert curve(result, "test") == curve(run(replace(trial, checkpoint="last")), "test")


def test_an_unknown_criterion_is_told():
    with pytest.raises(ValueError, match=r"checkpoint='a/auc' is no criterion.*'a/rmse'"):
        run(of("mapping", checkpoint="a/auc"))


def test_rows_are_counted_as_often_as_they_are_forwarded():
    usual = run(of("mapping")).cost
    assert usual.samples == 3 * 48 and usual.steps == 9
    assert run(of("mapping", method="modo")).cost.samples == 9 * 15
    assert run(of("mapping", method="famo")).cost.samples == 2 * 3 * 48
