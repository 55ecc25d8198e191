import os
from dataclasses import replace

import pytest
import tiny
import torch

from equipoise.study import Failure, Inline, Local, Result, Trial
from equipoise.study.executors import cores

TRIAL = Trial(
    problem=f"{tiny.HERE}:tiny",
    method="rlw",
    stage="final",
    seed=0,
    learning_rate=0.01,
    epochs=1,
    batch_size=16,
)


def measured(outcome):
    assert isinstance(outcome, Result), outcome
    return replace(outcome, cost=replace(outcome.cost, step_ms=0.0, seconds=0.0))


def report_surroundings(trial):
    """Stands in for a trial: says what a worker sees, as the failure it is shown as."""
    seen = {"threads": torch.get_num_threads(), "omp": os.environ["OMP_NUM_THREADS"]}
    return Failure(f"{seen} {os.getpid()}")


def test_results_are_the_same_whatever_the_number_of_workers():
    trials = [replace(TRIAL, seed=seed) for seed in range(4)]
    inline = {trial: measured(outcome) for trial, outcome in Inline().run(trials)}
    for workers in (1, 3):
        found = {trial: measured(outcome) for trial, outcome in Local(workers).run(trials)}
        assert found == inline


def test_each_trial_has_a_fresh_process_with_one_thread():
    trials = [replace(TRIAL, seed=seed) for seed in range(3)]
    before = os.environ.get("OMP_NUM_THREADS")
    told = [out.error for _, out in Local(2, function=report_surroundings).run(trials)]
    assert len({line.split()[-1] for line in told}) == 3
    assert all(line.startswith("{'threads': 1, 'omp': '1'}") for line in told)
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_a_killed_worker_costs_its_trial_one_retry(tmp_path):
    options = f'{{"marker":"{tmp_path / "marker"}","deaths":1}}'
    dying = replace(TRIAL, problem=f"{tiny.HERE}:deadly", problem_options=options)
    outcomes = dict(Local(2).run([dying, TRIAL]))
    assert measured(outcomes[dying]).status == "done"
    assert measured(outcomes[TRIAL]).status == "done"
    assert (tmp_path / "marker").read_text() == "x"


def test_a_worker_killed_twice_is_a_failure_and_the_others_go_on(tmp_path):
    options = f'{{"marker":"{tmp_path / "marker"}","deaths":9}}'
    dying = replace(TRIAL, problem=f"{tiny.HERE}:deadly", problem_options=options)
    outcomes = dict(Local(1).run([dying, TRIAL]))
    assert outcomes[dying] == Failure("the worker ended by signal 9 without a result", attempts=2)
    assert measured(outcomes[TRIAL]).status == "done"
    assert (tmp_path / "marker").read_text() == "xx"


def test_an_error_is_a_failure_with_its_traceback_and_is_not_tried_again():
    ((_, failure),) = Local(1).run([replace(TRIAL, problem=f"{tiny.HERE}:faulty")])
    assert isinstance(failure, Failure) and failure.attempts == 1
    assert failure.error.startswith("Traceback")
    assert failure.error.endswith("RuntimeError: this model cannot be built")


def test_inline_raises_the_error_itself():
    with pytest.raises(RuntimeError, match="this model cannot be built"):
        list(Inline().run([replace(TRIAL, problem=f"{tiny.HERE}:faulty")]))


def test_stopping_early_ends_the_workers():
    slow = [
        replace(TRIAL, seed=seed, problem_options=f'{{"pause":{0.01 if seed == 0 else 60}}}')
        for seed in range(3)
    ]
    running = Local(2).run(slow)
    next(running)
    running.close()  # waits for its workers, which would otherwise sleep for a minute


def test_workers_can_be_spawned_anew():
    ((_, outcome),) = Local(1, start="spawn").run([TRIAL])
    ((_, inline),) = Inline().run([TRIAL])
    assert measured(outcome) == measured(inline)


def test_there_must_be_a_worker():
    with pytest.raises(ValueError, match="workers is 0"):
        Local(0)
    assert cores() >= 1
