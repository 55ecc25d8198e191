"""Narrow linear networks: part of the Pareto front is beyond all fixed weights, and methods end there."""

import numpy as np
import pytest
import torch

from equipoise import Balancer
from equipoise.problems.synthetic.linear_front import (
    FRUSTRATED,
    TASKS,
    attainable,
    linear_front,
    spread,
)

ALIKE = (0.3, 0.35, 0.4)


def simplex(steps):
    """All weights in steps of ``1 / steps``."""
    pairs = [(i, j) for i in range(steps + 1) for j in range(steps + 1 - i)]
    return np.array([(i, j, steps - i - j) for i, j in pairs]) / steps


def trained(method, seed, steps=240, **options):
    """Gains at the end of training on whole splits with Adam, and metrics of all tasks."""
    torch.manual_seed(seed)
    built = linear_front(rows=64, **options)
    model = built.model(TASKS)
    balancer = Balancer(method, list(TASKS))
    (batch,) = built.data("train").batches(64, None)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        balancer.backward(built.losses_of(model, batch))
        optimizer.step()
        schedule.step()
    (test,) = built.data("test").batches(64, None)
    with torch.no_grad():
        outputs = model(test.inputs)
    return {metric.name: metric.score(outputs, test.targets) for metric in built.metrics}


@pytest.mark.parametrize("width", [1, 2])
def test_the_best_heads_on_a_subspace_give_the_gains_that_are_said(width):
    built, known = linear_front(width=width), attainable(width=width)
    data = built.data("validation")
    x = data.inputs.double().numpy()
    targets = np.column_stack([data.targets[name].double().numpy() for name in TASKS])
    best = np.linalg.lstsq(x, targets, rcond=None)[0].T
    # An orthonormal basis of the space of the predictors, in the coordinates of the inputs.
    basis = np.linalg.lstsq(known.predictors, best, rcond=None)[0]
    for direction in spread(5):
        normal = np.linalg.svd(direction[None])[2][1:]
        space = direction[None] if width == 1 else normal
        hidden = x @ (space @ basis).T
        heads = np.linalg.lstsq(hidden, targets, rcond=None)[0]
        errors = ((hidden @ heads - targets) ** 2).mean(0)
        assert 1.1 - errors == pytest.approx(known.gains(direction), abs=1e-5)


def test_moments_are_the_same_in_every_split_and_examples_are_not():
    moments, inputs = [], []
    for split in ("train", "validation", "test"):
        data = linear_front().data(split)
        whole = torch.cat([data.inputs, *(data.targets[name] for name in TASKS)], 1)
        moments.append(whole.T @ whole / len(whole))
        inputs.append(data.inputs)
    torch.testing.assert_close(moments[0], moments[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(moments[0], moments[2], rtol=0, atol=1e-5)
    labels = moments[0][8:, 8:]
    assert labels.diagonal().tolist() == pytest.approx([1.1] * 3, abs=1e-5)
    assert [labels[0, 1], labels[0, 2], labels[1, 2]] == pytest.approx(FRUSTRATED, abs=1e-5)
    assert torch.cdist(inputs[0], inputs[2]).min() > 1e-3


@pytest.mark.parametrize("width", [1, 2])
def test_no_subspace_does_better_by_a_weighted_sum_than_the_one_of_the_largest_eigenvalues(width):
    known = attainable(width=width)
    every = known.feasible(4000)
    for weights in simplex(5):
        best, found = weights @ known.reached(weights), (every @ weights).max()
        assert found <= best + 1e-12 and found == pytest.approx(best, abs=5e-3)


@pytest.mark.parametrize(
    ("correlations", "width", "explored"),
    [
        (FRUSTRATED, 1, False),
        (FRUSTRATED, 2, True),
        (ALIKE, 1, True),
        (ALIKE, 2, False),
        # Two signs turned: the same tasks but for the sign of a label.
        ((-0.3, -0.35, 0.4), 1, True),
        ((0.45, 0.4, -0.35), 1, False),
    ],
)
def test_the_condition_says_whether_a_dense_sweep_of_weights_leaves_a_gap(
    correlations, width, explored
):
    known = attainable(correlations, width)
    assert known.explored() is explored
    swept = known.reached(simplex(100))
    balanced = known.balanced()
    # It is a point of the front, and the nearest that weights come to it, in gains of 0 to 1.
    assert known.suboptimality(balanced) < 2e-3
    nearest = np.abs(swept - balanced).max(-1).min()
    found = known.beyond(balanced)
    if explored:
        assert nearest < 0.03 and found.high < 1e-4
    else:
        assert nearest > 0.08 and found.low > 1e-3


def test_weights_end_on_the_front_and_are_within_their_own_reach():
    known = attainable()
    for weights in simplex(6):
        gains = known.reached(weights)
        assert known.suboptimality(gains) < 1e-6 and known.beyond(gains).high < 1e-4


def test_suboptimality_finds_what_can_be_gained():
    known = attainable()
    assert known.suboptimality(known.balanced() - 0.05) == pytest.approx(0.05, abs=2e-3)


def test_beyond_is_certified_by_a_dense_sweep():
    """The bound is the least over all weights: no weights of a sweep come below it, and some come near."""
    known = attainable()
    gains = known.balanced()
    weights = simplex(100)
    sums = (weights * (known.reached(weights) - gains)).sum(-1)
    found = known.beyond(gains)
    assert found.low <= sums.min() + 1e-9 and sums.min() == pytest.approx(found.high, abs=5e-3)


@pytest.mark.parametrize("seed", [0, 1])
def test_mgda_ends_on_the_front_where_no_fixed_weights_end(seed):
    found = trained("mgda", seed)
    assert found["suboptimality"] < 1e-3 and found["gap"] > 0.01


def test_fixed_weights_end_within_reach_and_leave_a_task_behind():
    found, balanced = trained("ew", 0), 100 * attainable().balanced().min()
    assert found["gap"] < 2e-3 and found["least gain"] < 0.75 * balanced


def test_where_weights_explore_the_front_mgda_ends_within_their_reach():
    found = trained("mgda", 0, correlations=ALIKE)
    assert found["suboptimality"] < 5e-3 and found["gap"] < 5e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 3}, "take 1 or 2"),
        ({"correlations": [0.1, 0.2]}, "three numbers between -1 and 1"),
        ({"correlations": [-0.9, -0.9, -0.9]}, "no three tasks have the correlations"),
        ({"noise": -1}, "noise >= 0"),
        ({"rows": 20}, "rows >= 44"),
        ({"tasks": ["a"]}, "two tasks or more"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        linear_front(**options)


def test_two_of_the_tasks_have_no_metrics_of_all_three():
    built = linear_front(tasks=["a", "c"])
    assert [task.name for task in built.tasks] == ["a", "c"] and built.metrics == ()
