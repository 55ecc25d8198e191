"""Quadratic losses with a conflict, a ratio of scales and a noise of choice; the front is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from equipoise.problems.base import Problem, SplitName
from equipoise.problems.data import Tensors
from equipoise.problems.synthetic.weighted_sums import excess
from equipoise.problems.tasks import Metric, Task

Array = NDArray[np.float64]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
SEED = 1729

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Two scales a hundredfold apart, a conflict and noise: what fixed weights, which are drawn from the
    # losses before training, see at once and equal weights do not.
    "litmus": {
        "protocol": "litmus",
        "problem_options": {"cosine": -0.3, "ratio": 100.0},
        "methods": ["uw", "uw_o", "gls", "imtl_l", "mgda", "pcgrad", "cagrad", "nash_mtl"],
        "learning_rates": [0.003, 0.01, 0.03],
        "seeds": 5,
        "epochs": 20,
        "batch_size": 32,
    },
    "quick": {
        "problem_options": {"cosine": -0.3, "ratio": 100.0},
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.01, 0.03],
        "seeds": 3,
        "epochs": 8,
        "batch_size": 32,
    },
}


@dataclass(frozen=True)
class Quadratics:
    r"""K quadratic losses of one point.

    .. math:: L_k(x) = \tfrac{1}{2} s_k \left( (x - a_k)^\top H_k (x - a_k)
        + \sigma^2 \operatorname{tr} H_k^{-1} \right)

    The second part is the noise of the examples, which no point can avoid.

    Attributes:
        scales: :math:`s`, ``float64[K]``.
        curvatures: :math:`H`, ``float64[K, D, D]``.
        optima: :math:`a`, ``float64[K, D]``.
        noise: :math:`\sigma`.
    """

    scales: Array
    curvatures: Array
    optima: Array
    noise: float

    @property
    def floors(self) -> Array:
        """The least loss of each task, ``[K]``."""
        traces = np.linalg.inv(self.curvatures).trace(axis1=1, axis2=2)
        return np.asarray(0.5 * self.scales * self.noise**2 * traces)

    def losses(self, x: Array) -> Array:
        """At points ``[..., D]``: ``[..., K]``."""
        away = x[..., None, :] - self.optima
        squares = np.einsum("...ki,kij,...kj->...k", away, self.curvatures, away)
        return np.asarray(0.5 * self.scales * squares + self.floors)

    def front(self, weights: Array) -> Array:
        r"""The minimum of a weighted sum of the losses; all of them are the Pareto front.

        .. math:: x(w) = \Big( \sum_k w_k s_k H_k \Big)^{-1} \sum_k w_k s_k H_k a_k

        Args:
            weights: not negative, and not all zero, ``[..., K]``.

        Returns:
            ``[..., D]``.
        """
        mixed = (np.asarray(weights, dtype=float) * self.scales)[..., None, None] * self.curvatures
        pull = np.einsum("...kij,kj->...i", mixed, self.optima)
        return np.asarray(np.linalg.solve(mixed.sum(-3), pull[..., None])[..., 0])

    def suboptimality(self, x: Array) -> float:
        """How much every loss could fall at once at a point ``[D]``, in units of its scale.

        It is zero on the Pareto front only.
        """

        def least(weights: Array) -> Array:
            # Of the losses over their scales.
            return self.losses(self.front(weights / self.scales)) / self.scales

        return excess(self.losses(x) / self.scales, least).high


@lru_cache(maxsize=8)
def of(
    number: int, dim: int, cosine: float, ratio: float, condition: float, noise: float
) -> Quadratics:
    """The losses of :func:`quadratics` with these options."""
    draw = np.random.default_rng([SEED, number, dim])
    # Directions with these cosines, from the root of their Gram matrix.
    gram = np.full((number, number), cosine) + (1 - cosine) * np.eye(number)
    values, vectors = np.linalg.eigh(gram)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    basis, _ = np.linalg.qr(draw.standard_normal((dim, dim)))
    directions = root @ basis[:number]
    steps = np.linspace(-0.5, 0.5, dim)
    eigenvalues = condition**steps
    turns = [np.linalg.qr(draw.standard_normal((dim, dim)))[0] for _ in range(number)]
    curvatures = np.stack([turn * eigenvalues @ turn.T for turn in turns])
    return Quadratics(
        scales=ratio ** np.linspace(0.0, 1.0, number),
        curvatures=curvatures,
        # Where the gradient at the start, which is zero, is minus the direction.
        optima=np.linalg.solve(curvatures, directions[..., None])[..., 0],
        noise=noise,
    )


def front(weights: Array | Sequence[float], **options: Any) -> Array:
    """The point that minimises a weighted sum of the losses: the Pareto front in closed form.

    Args:
        weights: not negative, of all tasks, ``[..., K]``.
        options: of :func:`quadratics`, without ``tasks`` and ``rows``.

    Returns:
        ``[..., D]``.
    """
    return losses_of(**options).front(np.asarray(weights, dtype=float))


def losses_of(
    number: int = 3,
    dim: int = 10,
    cosine: float = -0.3,
    ratio: float = 1.0,
    condition: float = 1.0,
    noise: float = 0.3,
) -> Quadratics:
    """The losses of :func:`quadratics` as functions of a point.

    Raises:
        ValueError: there are no such losses.
    """
    if number < 2 or dim < number:
        raise ValueError(
            f"number is {number} and dim {dim}; take 2 tasks or more, and dim >= number"
        )
    least = -1 / (number - 1)
    if not least <= cosine < 1:
        raise ValueError(
            f"cosine is {cosine}, but {number} gradients can have a cosine from {least:.3g} to below 1 only"
        )
    if ratio <= 0 or condition < 1 or noise < 0:
        raise ValueError(
            f"ratio is {ratio}, condition {condition} and noise {noise}; take ratio > 0, condition >= 1 and "
            "noise >= 0"
        )
    return of(number, dim, float(cosine), float(ratio), float(condition), float(noise))


class Point(nn.Module):
    """A point, at zero to begin with, which every task gets for every example."""

    def __init__(self, dim: int, tasks: Sequence[str]) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.zeros(dim))
        self.tasks = tuple(tasks)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """The point, ``Tensor[B, D]``, for each task."""
        rows = self.x + self.x.new_zeros(len(inputs), 1)
        return dict.fromkeys(self.tasks, rows)


def whitened(rows: int, dim: int, draw: np.random.Generator) -> Array:
    """Draws ``[rows, dim]`` whose mean is 0 and whose covariance is the identity, both exactly."""
    drawn = draw.standard_normal((rows, dim))
    orthogonal, _ = np.linalg.qr(drawn - drawn.mean(0))
    return np.asarray(orthogonal * np.sqrt(rows))


def quadratics(
    number: int = 3,
    dim: int = 10,
    cosine: float = -0.3,
    ratio: float = 1.0,
    condition: float = 1.0,
    noise: float = 0.3,
    rows: int = 512,
    tasks: Sequence[str] | None = None,
) -> Problem:
    r"""Quadratic losses of one point, with a conflict, a ratio of scales and a noise of choice.

    An example of task k is a target :math:`t = a_k + \varepsilon`, and its loss
    :math:`\tfrac{1}{2} s_k (x - t)^\top H_k (x - t)`. Mean and covariance of :math:`\varepsilon` are exact in
    every split, so that the loss of a split is the same function of x in all of them.

    Args:
        number: of tasks, which are called ``"q1"``, ``"q2"``, ...
        dim: D, the number of parameters.
        cosine: between the gradients of any two tasks at the start, x = 0.
        ratio: of the last scale :math:`s_K` to the first, which is 1; those between are spread evenly
            in their logarithm. It is also the ratio of the norms of the gradients at the start.
        condition: of every curvature :math:`H_k`; 1: the identity. Their axes differ from task to task.
        noise: standard deviation of an example's gradient, in every coordinate, over the task's scale.
        rows: examples of each split.
        tasks: some of them; None for all.

    Raises:
        ValueError: no such losses exist, ``rows`` is not above ``dim``, or a task is unknown.
    """
    known = losses_of(number, dim, cosine, ratio, condition, noise)
    if rows <= dim:
        raise ValueError(f"rows is {rows}; take more than dim, {dim}")
    names = [f"q{k + 1}" for k in range(number)]

    def data(split: SplitName) -> Tensors:
        draw = np.random.default_rng([SEED, 1 + SPLITS.index(split)])
        targets = {}
        for k, name in enumerate(names):
            # The gradient of an example is H (x - a - e): e = H^-1 u gives it the noise u.
            noises = known.noise * whitened(rows, dim, draw)
            moved = np.linalg.solve(known.curvatures[k], noises.T).T
            targets[name] = torch.from_numpy(known.optima[k] + moved).float()
        return Tensors(torch.zeros(rows, 1), targets)

    def task(k: int, name: str) -> Task:
        scale, curvature = float(known.scales[k]), torch.from_numpy(known.curvatures[k])

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            away = outputs - targets
            inner = curvature.to(away)
            return 0.5 * scale * ((away @ inner) * away).sum(-1).mean()

        def value(outputs: Tensor, targets: Tensor) -> float:
            return loss(outputs.double(), targets.double()).item()

        metric = Metric(name="value", score=value, higher_is_better=False)
        return Task(name=name, loss=loss, metrics=(metric,))

    def suboptimality(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> float:
        point = next(iter(outputs.values()))[0].detach().double().cpu().numpy()
        return chosen.suboptimality(point)

    def worst(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> float:
        point = next(iter(outputs.values()))[0].detach().double().cpu().numpy()
        return float(((chosen.losses(point) - chosen.floors) / chosen.scales).max())

    problem = Problem(
        name="quadratics",
        tasks=tuple(task(k, name) for k, name in enumerate(names)),
        data=data,
        model=lambda wanted: Point(dim, wanted),
        metrics=(
            Metric(name="suboptimality", score=suboptimality, higher_is_better=False),
            Metric(name="worst", score=worst, higher_is_better=False),
        ),
        about=(
            f"{number} quadratic losses of one point in {dim} dimensions. Gradients at the start have the "
            f"cosine {cosine:g}, and the scales of the losses a ratio of {ratio:g}. 'suboptimality' is how "
            "much every loss could fall at once in units of its scale (0: on the Pareto front); 'worst' is "
            "the largest distance of a loss from its minimum in that unit."
        ),
    ).only(tasks)
    kept = [names.index(each.name) for each in problem.tasks]
    chosen = Quadratics(known.scales[kept], known.curvatures[kept], known.optima[kept], known.noise)
    return problem
