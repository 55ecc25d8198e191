"""The toy of two parameters: the losses of the papers, and what counts as found."""

import pytest
import torch

from equipoise.problems import problem
from equipoise.problems.synthetic.toy2d import BOUNDS, STARTS, losses, pareto_front, toy2d


def measured(theta, **options):
    built = toy2d(**options)
    model = built.model(["f1", "f2"])
    with torch.no_grad():
        model.theta.copy_(torch.tensor(theta))
    (batch,) = built.data("test").batches(10, None)
    with torch.no_grad():
        outputs = model(batch.inputs)
    return {metric.name: metric.score(outputs, batch.targets) for metric in built.metrics}


def test_the_losses_are_those_of_the_published_code():
    """By hand: at (7, -8) the first loss is 0.1 * tanh(4) * -20; at (-8.5, 7.5) both are logarithms."""
    got = losses(torch.tensor([[7.0, -8.0], [-8.5, 7.5]], dtype=torch.float64))
    assert got[0].tolist() == pytest.approx([-1.998658599, -0.399731720], rel=1e-8)
    assert got[1].tolist() == pytest.approx([0.655236341, 7.900798143], rel=1e-8)


def test_the_front_runs_between_the_two_minima():
    front = pareto_front(21)
    assert front[:, 1].tolist() == pytest.approx([-8.36] * 21, abs=0.1)
    assert sorted(front[[0, -1], 0].tolist()) == pytest.approx([-7.0, 7.0], abs=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_seeds_take_the_starts_in_turn(seed):
    torch.manual_seed(seed)
    assert tuple(toy2d().model(["f1", "f2"]).theta.tolist()) == STARTS[seed % 5]


def test_a_start_can_be_named():
    torch.manual_seed(3)
    assert tuple(toy2d(start=1).model(["f1"]).theta.tolist()) == STARTS[1]
    with pytest.raises(ValueError, match="start is 5; take 0 to 4"):
        problem("toy2d", start=5)


def test_bounds_make_losses_positive_and_leave_gradients_and_metrics_as_they_are():
    gradients, values, raw = [], [], []
    for positive in (True, False):
        built = toy2d(start=2, positive=positive)
        model = built.model(["f1", "f2"])
        (batch,) = built.data("test").batches(10, None)
        outputs = model(batch.inputs)
        found = built.losses_of(model, batch)
        raw.append([loss.item() for loss in found.values()])
        torch.autograd.backward(list(found.values()))
        gradients.append(model.theta.grad.tolist())
        score = built.by_name["f2"].metrics[0].score
        values.append(score(outputs["f2"], batch.targets["f2"]))
    assert gradients[0] == gradients[1] and values[0] == values[1] == pytest.approx(raw[1][1])
    assert [a - b for a, b in zip(*raw, strict=True)] == pytest.approx([2.1, 21.0])
    grid = torch.cartesian_prod(*[torch.linspace(-11, 11, 200, dtype=torch.float64)] * 2)
    assert (losses(grid) > torch.tensor(BOUNDS)).all()


@pytest.mark.parametrize(
    ("theta", "found", "balanced"),
    [
        ((0.0, -8.36), 100, 100),
        # The end of equal weights: on the front, and nearly all for the second loss.
        ((-5.73, -8.41), 100, 0),
        ((7.0, -8.36), 100, 0),
        # Equal losses and far from the front.
        ((0.0, -4.0), 0, 0),
        ((-8.5, 7.5), 0, 0),
    ],
)
def test_the_balanced_point_is_on_the_front_and_in_its_middle(theta, found, balanced):
    got = measured(theta)
    assert (got["on the front"], got["balanced"]) == (found, balanced)
    assert (got["distance"] < 0.1) == bool(found)


def test_an_epoch_has_a_hundred_steps():
    data = toy2d().data("train")
    assert data.steps(1) == 100 and len(list(data.batches(1, seed=0))) == 100
