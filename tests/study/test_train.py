from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from equipoise.study import Trial
from equipoise.study.train import run

TRIAL = Trial(
    problem=f"{tiny.HERE}:tiny",
    method="ew",
    stage="final",
    seed=0,
    learning_rate=0.01,
    epochs=2,
    batch_size=16,
)
METHODS = ("ew", "rlw", "rgw", "uw", "mgda", "pcgrad", "dwa")


def measured(result):
    """Everything but the clock."""
    return replace(result, cost=replace(result.cost, step_ms=0.0, seconds=0.0))


@pytest.mark.parametrize("method", METHODS)
def test_the_same_trial_gives_the_same_numbers(method):
    trial = replace(TRIAL, method=method)
    assert measured(run(trial)) == measured(run(trial))


def test_results_do_not_depend_on_the_random_state_of_the_process():
    torch.manual_seed(1)
    first = run(replace(TRIAL, method="rlw"))
    torch.manual_seed(2)
    torch.rand(5)
    assert measured(run(replace(TRIAL, method="rlw"))) == measured(first)


def test_one_seed_gives_every_method_the_same_initial_weights_and_batches():
    results = [run(replace(TRIAL, method=method)) for method in METHODS]
    assert len({result.initial for result in results}) == 1
    assert len({result.order for result in results}) == 1


def test_another_seed_gives_other_weights_and_batches():
    other = run(replace(TRIAL, seed=1))
    assert other.initial != run(TRIAL).initial
    assert other.order != run(TRIAL).order


def test_a_single_task_trial_starts_from_the_same_trunk_order_and_learns_one_task():
    result = run(replace(TRIAL, method="stl", task="a"))
    assert result.order == run(TRIAL).order
    assert {row.task for row in result.metrics} == {"a"}
    assert result.weights == ()


def test_tuning_trials_never_read_the_test_split():
    guarded = replace(TRIAL, problem_options='{"forbid_test":true}')
    tuned = run(replace(guarded, stage="tune"))
    assert {row.split for row in tuned.metrics} == {"train", "validation"}
    with pytest.raises(PermissionError):
        run(guarded)


def test_final_trials_read_the_test_split_once_after_the_last_epoch(tmp_path):
    log = tmp_path / "log"
    result = run(replace(TRIAL, problem_options=f'{{"log":"{log}"}}'))
    assert Path(log).read_text().split() == ["train", "validation", "test"]
    assert {row.epoch for row in result.metrics if row.split == "test"} == {TRIAL.epochs}


def test_looking_at_gradients_does_not_change_training():
    # Only final trials look; with dropout any disturbance of the random state would show.
    final = replace(TRIAL, problem_options='{"dropout":0.5}', epochs=3)
    curves = [
        [row for row in run(replace(final, stage=stage)).metrics if row.split != "test"]
        for stage in ("tune", "final")
    ]
    assert curves[0] == curves[1]
    assert run(final).gradients and not run(replace(final, stage="tune")).gradients


def test_losses_are_recorded_raw_whatever_the_weights():
    # The first epoch in full batches: one step, whose losses come before any update.
    first = replace(TRIAL, batch_size=48, epochs=1)
    losses = [
        {
            (row.task, row.value)
            for row in run(replace(first, method=m)).metrics
            if row.split == "train"
        }
        for m in ("ew", "rlw", "uw")
    ]
    assert losses[0] == losses[1] == losses[2]


def test_weights_are_those_applied():
    equal = run(TRIAL).weights
    assert {(row.mean, row.std) for row in equal} == {(1.0, 0.0)}
    random = run(replace(TRIAL, method="rlw")).weights
    for epoch in (1, 2):
        shares = [row for row in random if row.epoch == epoch]
        assert sum(row.mean for row in shares) == pytest.approx(1)
        assert all(row.std > 0 for row in shares)


def test_weight_sum_tasks_makes_random_weights_sum_to_the_number_of_tasks():
    scaled = run(replace(TRIAL, method="rlw", weight_sum="tasks")).weights
    assert sum(row.mean for row in scaled if row.epoch == 1) == pytest.approx(2)


def test_a_run_that_leaves_the_finite_numbers_is_a_result():
    result = run(replace(TRIAL, problem=f"{tiny.HERE}:explosive", learning_rate=0.1))
    assert result.status == "diverged"
    assert "'a' is not finite in epoch 1" in result.note or "on the validation" in result.note
    assert not [row for row in result.metrics if row.split == "test"]


@pytest.mark.parametrize(
    ("method", "route", "passes"),
    [("ew", "auto", 1), ("mgda", "parameters", 2), ("mgda", "features", 1), ("stl", "auto", 1)],
)
def test_backward_passes_through_the_trunk_are_counted(method, route, passes):
    task = "a" if method == "stl" else None
    cost = run(replace(TRIAL, method=method, route=route, task=task)).cost
    assert cost.backwards == passes * cost.steps
    assert cost.samples == cost.steps * TRIAL.batch_size == 2 * 48


def test_methods_that_look_at_losses_ignore_the_route_of_the_others():
    assert measured(run(replace(TRIAL, route="parameters"))).metrics == run(TRIAL).metrics


def test_the_number_of_threads_is_given_back():
    before = torch.get_num_threads()
    assert run(TRIAL, threads=1).threads == 1
    assert torch.get_num_threads() == before


def test_flatness_is_measured_around_the_trained_parameters_and_changes_nothing_else():
    plain, looked = run(TRIAL), run(replace(TRIAL, flatness=0.1))
    around = [row for row in looked.metrics if row.split == "around"]
    assert {row.task for row in around} == {"a", "b"}
    assert tuple(row for row in looked.metrics if row.split != "around") == plain.metrics
    last = {
        r.task: r.value for r in plain.metrics if r.split == "validation" and r.metric == "loss"
    }
    # The steps are small, so that losses stay near, and random, so that they differ.
    assert all(0.5 < row.value / last[row.task] < 3 for row in around)
    assert run(replace(TRIAL, flatness=0.1)).metrics == looked.metrics
    nearer = [r for r in run(replace(TRIAL, flatness=1e-6)).metrics if r.split == "around"]
    assert all(row.value == pytest.approx(last[row.task], rel=1e-3) for row in nearer)
