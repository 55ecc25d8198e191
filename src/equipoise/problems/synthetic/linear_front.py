"""Narrow linear networks of three tasks, part of whose Pareto front no fixed weights reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from equipoise.nn import TrunkAndHeads
from equipoise.problems.base import Problem, SplitName
from equipoise.problems.data import Tensors
from equipoise.problems.synthetic.weighted_sums import Excess, excess
from equipoise.problems.tasks import Metric, Task

Array = NDArray[np.float64]
TASKS = ("a", "b", "c")
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
INPUTS = 8
SEED = 4400
# Their product is negative: no signs of the tasks make all of them positive.
FRUSTRATED = (-0.45, -0.4, -0.35)
# Of a finer search around a direction; the middle one is the direction itself.
OFFSETS = np.array(list(product(np.linspace(-1, 1, 9), repeat=3)))

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "hu2023": {
        "protocol": "frontier",
        "methods": ["mgda", "nash_mtl", "imtl_g", "cagrad", "tchebycheff", "uw_o"],
        "learning_rates": [0.1],
        # Methods lie tens of percent apart between seeds; single-task networks at 91 % always.
        "near_zero": dict.fromkeys(("a/explained", "b/explained", "c/explained"), 0.0),
        "weight_step": 0.1,
        "seeds": 5,
        "epochs": 30,
        "batch_size": 64,
    },
    "quick": {
        "methods": ["uw", "uw_o", "cagrad"],
        "learning_rates": [0.1],
        # Methods lie tens of percent apart between seeds; single-task networks at 91 % always.
        "near_zero": dict.fromkeys(("a/explained", "b/explained", "c/explained"), 0.0),
        "seeds": 3,
        "epochs": 20,
        "batch_size": 64,
    },
}


@dataclass(frozen=True)
class LinearFront:
    """What a linear network of a width attains on three tasks.

    With the best heads, a network is a subspace of as many dimensions as it is wide, and a task's gain is the
    squared length of the projection of its best predictor onto it: its loss falls by so much.

    Attributes:
        predictors: the best linear predictors of the tasks in coordinates of the space that they span,
            ``float64[3, 3]``; their inner products are the correlations.
        width: of the network, 1 or 2.
    """

    predictors: Array
    width: int

    def gains(self, directions: Array) -> Array:
        """Of the subspace that a unit vector ``[..., 3]`` spans, or is normal to at width 2: ``[..., 3]``."""
        along = (directions @ self.predictors.T) ** 2
        return np.asarray(along if self.width == 1 else (self.predictors**2).sum(-1) - along)

    def reached(self, weights: Array) -> Array:
        """Gains at the minimum of a weighted sum of the losses.

        That is the space of the largest eigenvalues of the weighted sum of the predictors' outer products.

        Args:
            weights: ``[..., 3]``.

        Returns:
            ``[..., 3]``.
        """
        mixed = (self.predictors.T * np.asarray(weights, dtype=float)[..., None, :]) @ (
            self.predictors
        )
        vectors = np.linalg.eigh(mixed)[1]
        return self.gains(vectors[..., -1] if self.width == 1 else vectors[..., 0])

    def feasible(self, points: int = 2000) -> Array:
        """Gains of subspaces spread evenly, ``[points, 3]``."""
        return self.gains(spread(points))

    def beyond(self, gains: Array) -> Excess:
        """How far gains ``[3]`` are from all that fixed weights reach.

        A positive bound from below says that no weights have them as a minimum.
        """
        return excess(-gains, lambda weights: -self.reached(weights), -self.feasible(60), 1e-5)

    def suboptimality(self, gains: Array) -> float:
        """How much every loss could fall at once from gains ``[3]``; zero on the Pareto front.

        Networks of the width only, and no mixtures of them: sought among subspaces spread evenly, and then on
        finer and finer grids around the best.
        """
        tried, reach, most = spread(1500), 0.1, 0.0
        for _ in range(6):
            spare = (self.gains(tried) - gains).min(-1)
            most = max(most, float(spare.max()))
            near = tried[spare.argmax()] + reach * OFFSETS
            tried, reach = near / np.linalg.norm(near, axis=-1, keepdims=True), reach / 4
        return most

    def explored(self) -> bool:
        """Whether fixed weights reach the whole Pareto front.

        They do if the signs of the tasks can be chosen so that all inner products are at least 0: those of
        the predictors at width 1, and those of the inverse of their Gram matrix at width 2.
        """
        gram = self.predictors @ self.predictors.T
        matrix = gram if self.width == 1 else np.linalg.inv(gram)
        signs = (np.array([1.0, *rest]) for rest in product((1.0, -1.0), repeat=2))
        return any(bool((np.outer(each, each) * matrix >= -1e-12).all()) for each in signs)

    def balanced(self, points: int = 20_000) -> Array:
        """Gains ``[3]`` of the subspace whose least gain is the largest."""
        every = self.feasible(points)
        return np.asarray(every[every.min(-1).argmax()])


def spread(points: int) -> Array:
    """Unit vectors spread evenly over half of the sphere, ``[points, 3]``."""
    number = np.arange(points) + 0.5
    height, angle = number / points, np.pi * (1 + 5**0.5) * number
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], -1)


def attainable(correlations: Sequence[float] = FRUSTRATED, width: int = 1) -> LinearFront:
    """What the networks of :func:`linear_front` with these options attain.

    Raises:
        ValueError: there are no such tasks, or the width is neither 1 nor 2.
    """
    if width not in (1, 2):
        raise ValueError(
            f"width is {width}; take 1 or 2: with 3 or more, one network is best for all three tasks"
        )
    if len(correlations) != 3 or not all(-1 < each < 1 for each in correlations):
        raise ValueError(
            f"correlations is {list(correlations)}; give three numbers between -1 and 1, of tasks a and b, a "
            "and c, b and c"
        )
    ab, ac, bc = correlations
    gram = np.array([[1.0, ab, ac], [ab, 1.0, bc], [ac, bc, 1.0]])
    if np.linalg.eigvalsh(gram)[0] < 1e-6:
        raise ValueError(
            f"no three tasks have the correlations {list(correlations)}; take some that are nearer to 0"
        )
    return LinearFront(np.linalg.cholesky(gram), width)


def linear_front(
    width: int = 1,
    correlations: Sequence[float] = FRUSTRATED,
    noise: float = 0.1,
    rows: int = 512,
    tasks: Sequence[str] | None = None,
) -> Problem:
    """Three linear tasks through a linear network that is too narrow for them.

    Inputs have 8 features. Labels are linear in them, with variance 1, plus noise. Second moments are exact,
    so that every split has the same losses and Pareto front.

    Args:
        width: of the hidden layer, 1 or 2.
        correlations: of the noiseless labels of tasks a and b, a and c, b and c.
        noise: variance of what no linear network can explain.
        rows: examples of each split.
        tasks: some of ``"a"``, ``"b"``, ``"c"``; None for all.

    Raises:
        ValueError: there are no such tasks, ``rows`` is too small, ``noise`` is negative, or a task is
            unknown.

    References:
        Hu et al., *Revisiting Scalarization in Multi-Task Learning: A Theoretical Perspective*, NeurIPS 2023,
        arXiv:2308.13985. They use three torques of SARCOS; these tasks are made up.
    """
    known = attainable(correlations, width)
    if rows < 4 * (INPUTS + len(TASKS)) or noise < 0:
        raise ValueError(
            f"rows is {rows} and noise {noise}; take rows >= {4 * (INPUTS + len(TASKS))} and noise >= 0"
        )
    turn, _ = np.linalg.qr(np.random.default_rng(SEED).standard_normal((INPUTS, INPUTS)))
    # Of the predictors in the space of the inputs, [3, INPUTS].
    best = known.predictors @ turn[: len(TASKS)]

    def data(split: SplitName) -> Tensors:
        draw = np.random.default_rng([SEED, 1 + SPLITS.index(split)])
        drawn = draw.standard_normal((rows, INPUTS + len(TASKS)))
        # Columns without mean, of variance 1 and orthogonal: inputs, and the noise of each task.
        columns = np.linalg.qr(drawn - drawn.mean(0))[0] * np.sqrt(rows)
        inputs, noises = columns[:, :INPUTS], columns[:, INPUTS:]
        labels = inputs @ best.T + np.sqrt(noise) * noises
        return Tensors(
            torch.from_numpy(inputs).float(),
            {name: torch.from_numpy(labels[:, [k]]).float() for k, name in enumerate(TASKS)},
        )

    def model(names: Sequence[str]) -> nn.Module:
        heads = {name: nn.Linear(width, 1, bias=False) for name in names}
        return TrunkAndHeads(nn.Linear(INPUTS, width, bias=False), heads)

    def gains(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Array:
        errors = [float(functional.mse_loss(outputs[name], targets[name])) for name in TASKS]
        return 1.0 + noise - np.array(errors)

    def beyond(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> float:
        return max(known.beyond(gains(outputs, targets)).low, 0.0)

    def spare(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> float:
        return known.suboptimality(gains(outputs, targets))

    def least(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> float:
        return 100 * float(gains(outputs, targets).min())

    joint = (
        Metric(name="least gain", score=least, higher_is_better=True, unit="%"),
        Metric(name="suboptimality", score=spare, higher_is_better=False),
        Metric(name="gap", score=beyond, higher_is_better=False),
    )
    explained = Metric(name="explained", score=_explained, higher_is_better=True, unit="%")
    problem = Problem(
        name="linear_front",
        tasks=tuple(
            Task(name=name, loss=functional.mse_loss, metrics=(explained,)) for name in TASKS
        ),
        data=data,
        model=model,
        about=(
            f"Three linear tasks through a linear network of width {width}. Fixed weights can reach "
            f"{'all' if known.explored() else 'only a part'} of its Pareto front. 'suboptimality' is how "
            "much every loss could still fall at once: 0 on the front. 'gap' is the same if networks could "
            "be mixed: 0 where some fixed weights end, and above 0 where none do."
        ),
        cite="Hu et al., Revisiting Scalarization (arXiv:2308.13985); the data are made up",
    ).only(tasks)
    whole = len(problem.tasks) == len(TASKS)
    return replace(problem, metrics=joint) if whole else problem


def _explained(outputs: Tensor, targets: Tensor) -> float:
    """Explained variance in percent."""
    errors = (outputs.double() - targets.double()).square().mean()
    return 100 * float(1 - errors / targets.double().square().mean())
