"""SDMGrad: weights near the mean, found by a few steps on products of independent batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from equipoise.methods.base import Card, CrossBatchMethod
from equipoise.methods.options import fraction, not_negative, positive
from equipoise.solvers import project_simplex


class SDMGrad(CrossBatchMethod):
    r"""Direction-oriented multi-objective learning.

    .. math:: v \leftarrow \Pi_\Delta\Big(v - \eta \frac{J_1 J_2^\top}{s^2}
              \big(v + \tfrac{\lambda}{K} 1\big)\Big) \text{ n times, with momentum}, \qquad
              w = \frac{v + \tfrac{\lambda}{K} 1}{1 + \lambda}

    where s is the mean of the tasks' gradient norms. v is carried over the steps, the momentum is not.

    Args:
        pull: :math:`\lambda \ge 0`, how strongly the update is pulled to the mean gradient.
        lr: :math:`\eta`, learning rate of the weights.
        n_iter: n, steps a call.
        momentum: of these steps, in [0, 1).
        norms: how s is kept away from 0: ``"clamped"`` takes negative products across batches for 0 and
            adds 1e-8 to the square, ``"smoothed"`` adds 1e-4 to every product (the official code).

    Raises:
        ValueError: an option out of its range.

    References:
        Xiao, Ban and Ji, *Direction-oriented Multi-objective Learning: Simple and Provable Stochastic
        Algorithms*, NeurIPS 2023, arXiv:2305.18409.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"kept": (-1,)}
    card = Card(
        id="sdmgrad",
        name="SDMGrad",
        heads="unweighted",
        weight_sum="1",
        guarantee="converges to a Pareto-stationary point near the mean gradient's path",
        defaults="pull 0.3, lr 10, 20 steps, momentum 0.5, as in the official scripts (LibMTL: lr 5).",
        deviations=(
            "In the official code's training path the three batches are one buffer, so only the last "
            "is used; LibMTL adds up the heads' gradients of all three."
        ),
        libmtl="SDMGrad",
        torchjd="SDMGrad",
    )

    def __init__(
        self,
        pull: float = 0.3,
        lr: float = 10.0,
        n_iter: int = 20,
        momentum: float = 0.5,
        norms: Literal["clamped", "smoothed"] = "clamped",
    ) -> None:
        super().__init__()
        self.pull = not_negative("pull", pull)
        self.lr = positive("lr", lr)
        if n_iter < 1:
            raise ValueError(f"option 'n_iter' must be at least 1; got {n_iter}")
        self.n_iter = n_iter
        self.momentum = fraction("momentum", momentum)
        if norms not in ("clamped", "smoothed"):
            raise ValueError(f"option 'norms' is 'clamped' or 'smoothed'; got '{norms}'")
        self.norms = norms

    kept: Tensor

    def weights(self, cross_gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`CrossBatchMethod.weights`."""
        squares = cross_gramian.diagonal(dim1=-2, dim2=-1)
        if self.norms == "smoothed":
            square = (squares + 1e-4).clamp_min(0.0).sqrt().mean(-1).square()
        else:
            square = squares.clamp_min(0.0).sqrt().mean(-1).square() + 1e-8
        matrix = cross_gramian / square[..., None, None]
        even = torch.full_like(squares, 1 / squares.shape[-1])
        weights = self.recall("kept", even)
        velocity = torch.zeros_like(weights)
        for _ in range(self.n_iter):
            slope = (matrix @ (weights + self.pull * even).unsqueeze(-1)).squeeze(-1)
            velocity = self.momentum * velocity + slope
            weights = project_simplex(weights - self.lr * velocity).x
        self.kept = weights
        return (weights + self.pull * even) / (1 + self.pull)
