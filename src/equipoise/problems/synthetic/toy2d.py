"""Two losses of two parameters, with a narrow valley between the start and the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.problems.base import Problem, SplitName
from equipoise.problems.data import Tensors
from equipoise.problems.tasks import Metric, Task

STARTS = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))
SCALE = (0.1, 1.0)
# Below every value of the two losses, as the code of FAMO's authors has them.
BOUNDS = (-2.1, -21.0)
TASKS = ("f1", "f2")
# Steps of an epoch, at batches of one.
STEPS = 100
# In parameters: as near as this counts as being on the front.
NEAR = 0.1

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Learning rates far above that of the papers: the valley is then passed in hundreds of steps.
    "rates": {
        "protocol": "litmus",
        "methods": ["uw", "uw_o", "mgda", "pcgrad", "cagrad", "imtl_g", "nash_mtl", "famo"],
        "learning_rates": [0.03, 0.1, 0.3],
        "seeds": 5,
        "epochs": 10,
        "batch_size": 1,
    },
    "quick": {
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.3],
        "seeds": 3,
        "epochs": 4,
        "batch_size": 1,
    },
    "navon2022": {
        "methods": [
            "mgda",
            "pcgrad",
            {"id": "cagrad", "options": {"c": 0.4}, "label": "cagrad"},
            "imtl_g",
            "nash_mtl",
        ],
        "learning_rates": [0.001],
        "seeds": 5,
        "epochs": 350,
        "batch_size": 1,
        "schedule": "constant",
    },
}


def losses(theta: Tensor) -> Tensor:
    """Both losses, ``Tensor[..., 2]``, at ``theta``, ``Tensor[..., 2]``.

    The formula is that of the published code; in the text of the CAGrad paper the sign of the tanh in the
    second loss is different.
    """
    x, y = theta.unbind(-1)
    f1 = (0.5 * (-x - 7) - torch.tanh(-y)).abs().clamp_min(5e-6).log() + 6
    f2 = (0.5 * (-x + 3) + torch.tanh(-y) + 2).abs().clamp_min(5e-6).log() + 6
    g1 = ((-x + 7) ** 2 + 0.1 * (-y - 8) ** 2) / 10 - 20
    g2 = ((-x - 7) ** 2 + 0.1 * (-y - 8) ** 2) / 10 - 20
    upper, lower = torch.tanh(0.5 * y).clamp_min(0), torch.tanh(-0.5 * y).clamp_min(0)
    both = torch.stack([upper * f1 + lower * g1, upper * f2 + lower * g2], -1)
    return both * both.new_tensor(SCALE)


def pareto_front(points: int = 101) -> Tensor:
    """Minima of all weighted sums, ``Tensor[points, 2]``: the front is convex here."""
    weight = torch.linspace(0, 1, points, dtype=torch.float64).unsqueeze(-1)
    weights = torch.cat([weight, 1 - weight], -1) / weight.new_tensor(SCALE)
    theta = torch.tensor([[0.0, -8.0]], dtype=torch.float64).repeat(points, 1).requires_grad_()
    optimizer = torch.optim.LBFGS([theta], max_iter=500, tolerance_grad=1e-9)

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = (weights * losses(theta)).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return theta.detach()


def distance(ends: Tensor, front: Tensor) -> Tensor:
    """From each of ``Tensor[..., 2]`` to the nearest point of the front."""
    return torch.cdist(ends, front).amin(-1)


@lru_cache(maxsize=1)
def _front() -> Tensor:
    # Under inference or no_grad a metric may be the first to ask.
    with torch.enable_grad():
        return pareto_front(401)


class Theta(nn.Module):
    """Two parameters, which every task gets for every example."""

    def __init__(self, start: Sequence[float], tasks: Sequence[str]) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(start, dtype=torch.float64))
        self.tasks = tuple(tasks)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """The parameters, ``Tensor[B, 2]``, for each task."""
        rows = self.theta + self.theta.new_zeros(len(inputs), 1)
        return dict.fromkeys(self.tasks, rows)


def toy2d(
    start: int | None = None, positive: bool = True, tasks: Sequence[str] | None = None
) -> Problem:
    """The two-dimensional problem of the CAGrad paper, as the Nash-MTL paper runs it.

    There is nothing to learn from: an example is a row of nothing, and an epoch of batches of one has 100
    steps.

    Args:
        start: which of the five starts of :data:`STARTS`, 0 to 4; None: that of the seed, in turn.
        positive: subtracts a bound from each loss in training. Gradients stay as they are; methods that take
            logarithms or inverses of losses need it, since the losses go below zero. Metrics show the losses
            of the paper either way.
        tasks: ``"f1"`` and ``"f2"``; None for both.

    Raises:
        ValueError: there is no such start, or a task is unknown.

    References:
        Liu et al., *Conflict-Averse Gradient Descent for Multi-task Learning*, NeurIPS 2021,
        arXiv:2110.14048; Navon et al., *Multi-Task Learning as a Bargaining Game*, ICML 2022,
        arXiv:2202.01017, for the starts and the factor 0.1 of the first loss.
    """
    if start is not None and start not in range(len(STARTS)):
        raise ValueError(
            f"start is {start}; take 0 to {len(STARTS) - 1}, or none for that of the seed"
        )

    def data(split: SplitName) -> Tensors:
        rows = STEPS if split == "train" else 1
        nothing = torch.zeros(rows, 1, dtype=torch.float64)
        return Tensors(nothing, dict.fromkeys(TASKS, nothing))

    def model(names: Sequence[str]) -> nn.Module:
        # The seed that torch was given last is that of the trial.
        number = torch.initial_seed() % len(STARTS) if start is None else start
        return Theta(STARTS[number], names)

    def task(k: int, name: str) -> Task:
        bound = BOUNDS[k] if positive else 0.0

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            return losses(outputs)[..., k].mean() - bound

        def value(outputs: Tensor, targets: Tensor) -> float:
            return losses(outputs)[..., k].mean().item()

        metric = Metric(name="value", score=value, higher_is_better=False)
        return Task(name=name, loss=loss, metrics=(metric,))

    return Problem(
        name="toy2d",
        tasks=tuple(task(k, name) for k, name in enumerate(TASKS)),
        data=data,
        model=model,
        metrics=(
            Metric(name="distance", score=_distance, higher_is_better=False),
            Metric(name="on the front", score=_found, higher_is_better=True, unit="%"),
            Metric(name="balanced", score=_balanced, higher_is_better=True, unit="%"),
        ),
        about=(
            "Two losses of two parameters. 'distance' is that of the parameters from the Pareto front, "
            f"'on the front' the share of runs that are nearer than {NEAR:g}, and 'balanced' the share of "
            "those that also leave neither loss in the upper half of its range along the front."
        ),
        cite="Liu et al. (arXiv:2110.14048), as in Navon et al. (arXiv:2202.01017)",
    ).only(tasks)


def _theta(outputs: Mapping[str, Tensor]) -> Tensor:
    return next(iter(outputs.values()))[:1].detach().cpu()


def _distance(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> float:
    return float(distance(_theta(outputs), _front()))


def _found(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> float:
    return 100.0 * (_distance(outputs, targets) < NEAR)


def _balanced(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> float:
    along = losses(_front())
    low, high = along.amin(0), along.amax(0)
    share = (losses(_theta(outputs)) - low) / (high - low)
    return 100.0 * bool(_found(outputs, targets) and float(share.max()) <= 0.5)
