import gc
import os
import signal
import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import tiny
import torch

from equipoise.study import Failure, Inline, Local, Result, Trial
from equipoise.study.executors import cores, endings, worker
from equipoise.study.executors.base import train

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
    assert outcomes[dying] == Failure(
        "the worker ended by signal 9 (SIGKILL) without a result", 2, "death"
    )
    assert measured(outcomes[TRIAL]).status == "done"
    assert (tmp_path / "marker").read_text() == "xx"


def test_an_error_is_a_failure_with_its_traceback_and_is_not_tried_again():
    ((_, failure),) = Local(1).run([replace(TRIAL, problem=f"{tiny.HERE}:faulty")])
    assert isinstance(failure, Failure) and failure.attempts == 1
    assert failure.error.startswith("Traceback")
    assert failure.error.endswith("RuntimeError: this model cannot be built")


def test_inline_records_an_error_and_goes_on_unless_asked_to_raise_it():
    faulty = replace(TRIAL, problem=f"{tiny.HERE}:faulty")
    outcomes = dict(Inline().run([faulty, TRIAL]))
    assert outcomes[faulty].error.endswith("RuntimeError: this model cannot be built")
    assert measured(outcomes[TRIAL]).status == "done"
    with pytest.raises(RuntimeError, match="this model cannot be built"):
        list(Inline(debug=True).run([faulty]))


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
    with pytest.raises(ValueError, match="workers is 0, and must be above 0"):
        Local(0)


def short_of_memory(trial):
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    torch.empty(1 << 34)


def memory_error(trial):
    raise MemoryError


def last_line(failure):
    return failure.error.splitlines()[-1]


@pytest.mark.parametrize("function", [short_of_memory, memory_error])
def test_a_trial_that_asks_for_too_much_memory_is_told_as_such_and_not_tried_again(function):
    ((_, failure),) = Local(1, function=function).run([TRIAL])
    assert (failure.cause, failure.attempts) == ("memory", 1)
    assert last_line(failure).startswith("out of memory: ")
    assert function.__name__ in failure.error


def test_torch_short_of_memory_on_a_gpu_is_told_as_such():
    ended = endings.of_error(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert ended.cause == "memory" and "Tried to allocate" in last_line(ended)
    assert endings.of_error(ValueError("memory")).cause == "error"


def test_a_worker_that_the_system_ended_for_lack_of_memory_is_told_as_such(tmp_path, monkeypatch):
    counter = tmp_path / "vmstat"
    counter.write_text("pgfault 7\noom_kill 3\n")
    monkeypatch.setattr(endings, "_VMSTAT", counter)
    before = endings.kills()
    assert before == 3
    counter.write_text("pgfault 9\noom_kill 4\n")
    ended = endings.of_process(-9, endings.kills() > before)
    assert ended.cause == "memory" and "the system ended the worker" in ended.error
    # Another process was ended for it; this one died of something else.
    assert endings.of_process(-11, True).error.startswith("the worker ended by signal 11 (SIGSEGV)")


def hang(trial):
    if trial.seed == 7:
        time.sleep(600)
    return train(trial)


def test_a_trial_beyond_its_time_is_ended_tried_again_and_the_others_go_on():
    hung = replace(TRIAL, seed=7)
    outcomes = dict(Local(2, function=hang, time_limit=1.5, retries=1).run([hung, TRIAL]))
    text = "the worker was ended after 1.5 s, the time limit of a trial"
    assert outcomes[hung] == Failure(text, attempts=2, cause="time")
    assert measured(outcomes[TRIAL]).status == "done"


def die(trial):
    os._exit(3)


@pytest.mark.parametrize("retries", [0, 2])
def test_a_death_is_tried_again_as_often_as_asked(retries):
    ((_, failure),) = Local(1, function=die, retries=retries).run([TRIAL])
    told = "the worker ended with exit code 3 without a result"
    assert failure == Failure(told, attempts=retries + 1, cause="death")


def die_while_sending(trial):
    """Half of a message is in the pipe when the worker dies."""
    (sender,) = (
        each for each in gc.get_objects() if isinstance(each, Connection) and each.writable
    )
    os.write(sender.fileno(), (1000).to_bytes(4, "big") + b"half")
    os._exit(0)


def test_a_worker_that_dies_while_it_sends_is_a_death():
    ((_, failure),) = Local(1, function=die_while_sending, retries=0).run([TRIAL])
    assert failure.cause == "death"


def never_quite_ends(trial):
    threading.Thread(target=time.sleep, args=(600,), daemon=False).start()
    return train(trial)


def test_a_worker_that_does_not_end_after_its_result_is_ended(monkeypatch):
    monkeypatch.setattr(worker, "GRACE", 0.1)
    ((_, outcome),) = Local(1, function=never_quite_ends).run([TRIAL])
    assert measured(outcome).status == "done"


def loads_data_in_processes(trial):
    loader = torch.utils.data.DataLoader(torch.arange(8), batch_size=4, num_workers=1)
    assert sum(batch.sum() for batch in loader) == 28
    return train(trial)


def test_a_trial_may_load_its_data_in_processes_of_its_own():
    ((_, outcome),) = Local(1, function=loads_data_in_processes).run([TRIAL])
    assert measured(outcome).status == "done"


def orphan_holds_the_pipe(trial):
    """A process of the worker that outlives it."""
    orphan = os.fork()
    if orphan == 0:
        time.sleep(30)
        os._exit(0)
    (Path(trial.problem) / "orphan").write_text(str(orphan))
    os._exit(5)


def test_a_death_is_noticed_while_a_process_of_the_worker_lives_on(tmp_path):
    trial = replace(TRIAL, problem=str(tmp_path))
    ((_, failure),) = Local(1, function=orphan_holds_the_pipe, retries=0).run([trial])
    assert failure.cause == "death" and "exit code 5" in failure.error
    os.kill(int((tmp_path / "orphan").read_text()), signal.SIGKILL)  # raises if it had ended before


def test_threads_are_set_and_recorded():
    ((_, outcome),) = Local(1, threads=2).run([TRIAL])
    assert outcome.threads == 2
    ((_, told),) = Local(1, start="spawn", threads=2, function=report_surroundings).run([TRIAL])
    assert told.error.startswith("{'threads': 2, 'omp': '2'}")


def visible(trial):
    return Failure(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))


def test_workers_share_gpus_as_asked(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    trials = [replace(TRIAL, device="cuda", seed=seed) for seed in range(4)]
    two_each = Local(workers_per_gpu=2, function=visible)
    assert two_each.facts(trials)["workers"] == 4
    assert len(Local(3, workers_per_gpu=2)._slots(trials)) == 3
    assert sorted(told.error for _, told in two_each.run(trials)) == ["0", "0", "3", "3"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,3"


def test_workers_and_cores_are_told():
    told = Local(3, threads=2).facts([TRIAL])
    assert told == {"executor": "local", "workers": 3, "threads": 2, "cores": cores()}


@pytest.mark.parametrize(
    "wrong", [{"threads": 0}, {"time_limit": -1}, {"workers_per_gpu": 0}, {"retries": -1}]
)
def test_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="must be above 0"):
        Local(**wrong)
