import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

# The tiny problems and the studies with given numbers are shared with the tests of the study.
sys.path.insert(0, str(Path(__file__).parents[1] / "study"))

import fakes

from equipoise.study import Inline, run
from equipoise.study.train import AROUND
from equipoise.study.trial import GradientRow, MetricRow, WeightRow

GAINS = {"gls": 0.2, "uw": 0.0, "rlw": -0.05}


def everything(trial):
    """Numbers for every section of a report: losses x and y of fixed weights have x y = 1."""
    ratio, epochs = 1.0, trial.epochs
    if trial.method in ("scalarization", "task_sampling"):
        weights = trial.options()["weights"]
        ratio = weights[1] / weights[0]
    key = [trial.seed, len(trial.method), int(1e6 * trial.learning_rate), len(trial.method_options)]
    noise = 0.01 * np.random.default_rng(key).normal(size=2)
    worse = 1 + 0.1 * abs(np.log10(trial.learning_rate / 0.01)) - GAINS.get(trial.method, 0.0)
    a, b = np.array([ratio**0.25, ratio**-0.25]) * worse + noise
    done = fakes.with_losses(trial, float(a), float(b), **{AROUND: {"a": 1.2 * a, "b": 1.1 * b}})
    earlier = [
        MetricRow(epoch, "train", task, "loss", float(last * (1 + epochs - epoch)))
        for epoch in range(1, epochs)
        for task, last in (("a", a), ("b", b))
        if trial.task in (None, task)
    ]
    weights, gradients = (), ()
    if trial.task is None:
        weights = tuple(
            WeightRow(epoch, task, mean, 0.1)
            for epoch in range(1, epochs + 1)
            for task, mean in (("a", 0.2), ("b", 0.6 - 0.1 * epoch))
        )
        gradients = tuple(
            GradientRow(epoch, one, other, value)
            for epoch in range(1, epochs + 1)
            for one, other, value in (("a", "a", 4.0), ("b", "b", 2.0), ("a", "b", -0.3))
        )
    metrics = (*earlier, *done.metrics)
    return replace(done, metrics=metrics, weights=weights, gradients=gradients)


@pytest.fixture(scope="session")
def frontier(tmp_path_factory):
    """The store of a study with a front, frozen weights, a sweep, flatness and sparse grids."""
    path = tmp_path_factory.mktemp("frontier") / "frontier.db"
    spec = fakes.spec(
        protocol="frontier",
        tuning="per seed",
        methods=["gls", "uw"],
        learning_rates=[0.001, 0.003, 0.01, 0.03],
        weight_step=0.125,
        seeds=5,
        sweep={"rows": [48, 96]},
        flatness=0.1,
        epochs=3,
    )
    run(spec, path, Inline(everything))
    return path
