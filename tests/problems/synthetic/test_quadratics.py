"""Quadratics are an oracle: where methods end is known in closed form."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise import Balancer
from equipoise.problems import problem
from equipoise.problems.synthetic.quadratics import PRESETS, front, losses_of, quadratics

HARD = {"number": 3, "dim": 6, "cosine": -0.3, "ratio": 5.0, "condition": 3.0, "noise": 0.3}


def descended(method, options, rate=0.05, steps=300, **arguments):
    """Where plain gradient descent on whole splits ends."""
    torch.manual_seed(0)
    built = quadratics(**options, rows=64)
    model = built.model([task.name for task in built.tasks]).double()
    batch = next(iter(built.data("train").batches(64, None)))
    balancer = Balancer(method, [task.name for task in built.tasks], **arguments)
    optimizer = torch.optim.SGD([{"params": model.parameters()}, *balancer.param_groups()], rate)
    for _ in range(steps):
        optimizer.zero_grad()
        balancer.backward(built.losses_of(model, batch))
        optimizer.step()
    return model.x.detach().numpy()


def test_the_losses_of_every_split_are_the_closed_form():
    built, known = quadratics(**HARD), losses_of(**HARD)
    for split in ("train", "validation", "test"):
        model = built.model(["q1", "q2", "q3"])
        with torch.no_grad():
            model.x += torch.linspace(-1, 1, 6)
        (batch,) = built.data(split).batches(10_000, None)
        got = [loss.item() for loss in built.losses_of(model, batch).values()]
        want = known.losses(np.linspace(-1, 1, 6))
        assert got == pytest.approx(want.tolist(), rel=1e-4)


def test_splits_share_no_example():
    train, test = (quadratics(**HARD).data(split).targets["q1"] for split in ("train", "test"))
    assert torch.cdist(train, test).min() > 1e-4


def test_gradients_at_the_start_have_the_cosine_the_ratio_and_the_noise_that_were_asked_for():
    built = quadratics(**HARD)
    data = built.data("train")
    model = built.model(["q1", "q2", "q3"])
    rows = []
    for task in built.tasks:
        # One gradient an example: the output of every example is a leaf of its own.
        x = torch.zeros(len(data), 6, requires_grad=True)
        (each,) = torch.autograd.grad(task.loss(x, data.targets[task.name]) * len(data), x)
        rows.append(each)
    means = torch.stack([each.mean(0) for each in rows])
    norms = means.norm(dim=1)
    cosines = (means @ means.T) / norms.outer(norms)
    assert cosines[0, 1] == pytest.approx(-0.3, abs=1e-4)
    assert cosines[1, 2] == pytest.approx(-0.3, abs=1e-4)
    assert norms.tolist() == pytest.approx([1, 5**0.5, 5], rel=1e-4)
    spread = torch.stack([each.std(0, correction=0) for each in rows])
    for k, scale in enumerate((1, 5**0.5, 5)):
        assert spread[k].tolist() == pytest.approx([0.3 * scale] * 6, rel=1e-3)
    assert model.x.tolist() == [0.0] * 6


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.05, 1), min_size=3, max_size=3))
def test_the_front_is_where_the_weighted_gradient_vanishes(weights):
    known = losses_of(**HARD)
    x = torch.from_numpy(known.front(np.array(weights))).requires_grad_()
    total = torch.zeros(())
    for k, weight in enumerate(weights):
        away = x - torch.from_numpy(known.optima[k])
        total = total + weight * known.scales[k] * (
            away @ torch.from_numpy(known.curvatures[k]) @ away
        )
    total.backward()
    assert x.grad is not None and x.grad.norm() < 1e-8


def test_with_one_curvature_the_front_is_the_hull_of_the_optima():
    weights = np.array([0.2, 0.5, 0.3])
    known = losses_of(3, 5, cosine=0.2)
    assert front(weights, number=3, dim=5, cosine=0.2) == pytest.approx(weights @ known.optima)


def test_suboptimality_is_zero_on_the_front_and_what_it_says_elsewhere():
    known = losses_of(**HARD)
    for weights in ([1, 1, 1], [1, 0, 0], [0.1, 0.3, 0.6]):
        assert known.suboptimality(front(weights, **HARD)) == pytest.approx(0, abs=1e-5)
    # Off the front of two alike tasks, by a step at right angles: both losses can fall by its half square.
    plain = {"number": 2, "dim": 3, "cosine": -0.5}
    middle = front([1, 1], **plain)
    optima = losses_of(**plain).optima
    across = np.cross(optima[0], optima[1])
    across /= np.linalg.norm(across)
    found = losses_of(**plain).suboptimality(middle + 0.4 * across)
    assert found == pytest.approx(0.08, abs=1e-5)


def test_equal_weights_end_at_the_closed_form():
    assert descended("ew", HARD, rate=0.1) == pytest.approx(front([1, 1, 1], **HARD), abs=1e-4)


def test_fixed_weights_end_at_the_closed_form():
    method, weights = "scalarization", [0.7, 0.2, 0.1]
    from equipoise import method as made

    end = descended(made(method, weights=weights), HARD, rate=0.2)
    assert end == pytest.approx(front(weights, **HARD), abs=1e-4)


@pytest.mark.parametrize("method", ["mgda", "upgrad"])
def test_methods_of_gradients_end_on_the_front_and_not_where_equal_weights_do(method):
    end = descended(method, HARD, rate=0.2)
    known = losses_of(**HARD)
    assert known.suboptimality(end) < 2e-3
    assert known.suboptimality(np.zeros(6)) > 0.05
    assert np.linalg.norm(end - front([1, 1, 1], **HARD)) > 0.1


def test_uw_o_ends_where_the_product_of_the_losses_is_stationary():
    end = descended("uw_o", HARD, rate=0.1)
    weights = 1 / losses_of(**HARD).losses(end)
    assert end == pytest.approx(front(weights, **HARD), abs=1e-3)


def test_uw_o_does_not_feel_scales_and_equal_weights_do():
    alike = HARD | {"condition": 1.0, "ratio": 1.0}
    scaled = alike | {"ratio": 50.0}
    assert descended("uw_o", alike, steps=50) == pytest.approx(
        descended("uw_o", scaled, steps=50), abs=1e-3
    )
    last = losses_of(**scaled).optima[2]
    near = [np.linalg.norm(descended("ew", each, rate=0.03) - last) for each in (alike, scaled)]
    assert near[1] < 0.3 * near[0]


def test_metrics_of_the_study_are_those_of_the_closed_form():
    built = problem("quadratics", **HARD)
    model = built.model(["q1", "q2", "q3"])
    (batch,) = built.data("test").batches(10_000, None)
    outputs = model(batch.inputs)
    by_name = {metric.name: metric.score(outputs, batch.targets) for metric in built.metrics}
    known = losses_of(**HARD)
    assert by_name["suboptimality"] == pytest.approx(known.suboptimality(np.zeros(6)), abs=1e-5)
    assert by_name["worst"] > by_name["suboptimality"]
    value = built.by_name["q3"].metrics[0].score(outputs["q3"], batch.targets["q3"])
    assert value == pytest.approx(known.losses(np.zeros(6))[2], rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"number": 1}, "2 tasks or more"),
        ({"number": 4, "dim": 3}, "dim >= number"),
        ({"cosine": -0.6}, "cosine from -0.5 to below 1"),
        ({"ratio": 0}, "ratio > 0"),
        ({"condition": 0.5}, "condition >= 1"),
        ({"rows": 10}, "take more than dim"),
        ({"tasks": ["q1", "q9"]}, "no task 'q9'"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        quadratics(**options)


def test_a_quick_preset_is_there():
    assert next(iter(PRESETS)) == "litmus" and "quick" in PRESETS
