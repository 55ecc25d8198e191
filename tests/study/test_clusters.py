"""Ray and Slurm: the same trials, the same numbers, and what is lost is tried again."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from test_executors import TRIAL, measured

from equipoise.study import Failure, Inline, Ray, Slurm
from equipoise.study.executors.base import train


def kill_the_ray_worker(trial):
    """Kills the process that Ray started, which is the parent of this one's, the first time."""
    marker = Path(trial.problem_options[2:-2])
    if not marker.exists():
        marker.write_text("")
        parent = int(Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
    return train(replace(trial, problem_options="{}"))


@pytest.fixture
def ray(monkeypatch):
    found = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}")
    yield found
    found.shutdown()


def test_a_dead_ray_worker_is_retried(ray, tmp_path):
    trial = replace(TRIAL, problem_options=f'["{tmp_path / "marker"}"]')
    ((_, outcome),) = Ray(function=kill_the_ray_worker).run([trial])
    assert (tmp_path / "marker").exists() and measured(outcome).status == "done"


def test_a_dead_ray_worker_is_a_failure_when_nothing_is_retried(ray, tmp_path):
    trial = replace(TRIAL, problem_options=f'["{tmp_path / "marker"}"]')
    ((_, outcome),) = Ray(function=kill_the_ray_worker, retries=0).run([trial])
    assert outcome.cause == "death" and outcome.error.startswith("the Ray worker was lost: ")


def test_trials_on_ray_fail_as_they_do_here(ray, tmp_path):
    options = f'{{"marker":"{tmp_path / "marker"}","deaths":9}}'
    dying = replace(TRIAL, problem=f"{tiny.HERE}:deadly", problem_options=options)
    faulty = replace(TRIAL, problem=f"{tiny.HERE}:faulty")
    outcomes = dict(Ray().run([dying, faulty, TRIAL]))
    assert outcomes[dying] == Failure(
        "the worker ended by signal 9 (SIGKILL) without a result", 2, "death"
    )
    assert outcomes[faulty].error.endswith("RuntimeError: this model cannot be built")
    ((_, inline),) = Inline().run([TRIAL])
    assert measured(outcomes[TRIAL]) == measured(inline)


def test_trials_on_ray_take_parts_of_a_gpu(ray):
    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    from test_executors import visible

    seen = [
        told.error
        for _, told in Ray(gpus=0.5, function=visible).run([TRIAL, replace(TRIAL, seed=1)])
    ]
    assert seen == ["0", "0"]
    assert Ray(gpus=0.5).facts([TRIAL])["cores"] == 2


def test_ray_refuses_a_part_of_a_gpu_below_zero():
    pytest.importorskip("ray")
    with pytest.raises(ValueError, match="gpus is -1"):
        Ray(gpus=-1)


def slurm(folder, **options):
    pytest.importorskip("submitit")
    return Slurm(folder / "jobs", cluster="local", poll=0.1, **options)


def lose_the_job(trial):
    """Kills the job, which is two processes up, the first time."""
    return kill_the_ray_worker(trial)


def test_jobs_have_the_outcomes_of_trials_here(tmp_path):
    faulty = replace(TRIAL, problem=f"{tiny.HERE}:faulty")
    outcomes = dict(slurm(tmp_path).run([faulty, TRIAL]))
    assert outcomes[faulty].error.endswith("RuntimeError: this model cannot be built")
    ((_, inline),) = Inline().run([TRIAL])
    assert measured(outcomes[TRIAL]) == measured(inline)


@pytest.mark.parametrize("retries", [0, 1])
def test_a_lost_job_is_retried_as_asked(tmp_path, monkeypatch, retries):
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}")
    trial = replace(TRIAL, problem_options=f'["{tmp_path / "marker"}"]')
    place = slurm(tmp_path, retries=retries, function=lose_the_job)
    ((_, outcome),) = place.run([trial])
    if retries:
        assert measured(outcome).status == "done"
    else:
        assert outcome.cause == "death" and "was lost in state" in outcome.error


def test_what_an_array_asks_of_slurm(tmp_path):
    pytest.importorskip("submitit")
    place = Slurm(tmp_path, 4, threads=2, gpus=1, partition="long", time_limit=600, retries=1)
    assert place._parameters == {
        "cpus_per_task": 2, "gpus_per_node": 1, "timeout_min": 30,
        "slurm_array_parallelism": 4, "slurm_partition": "long",
    }  # fmt: skip


def test_without_slurm_it_is_told(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="Slurm cannot be reached"):
        list(Slurm(tmp_path).run([TRIAL]))


@pytest.mark.parametrize(("place", "extra"), [(Ray, "ray"), (Slurm, "slurm")])
def test_a_missing_extra_is_named(monkeypatch, place, extra):
    monkeypatch.setattr(f"equipoise.study.executors.{extra}.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"equipoise\[{extra}\]"):
        place()
