"""PIVRG: FairGrad that leans towards the tasks that do worst on their metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import positive
from equipoise.solvers import bargaining


class PIVRG(GramianMethod):
    r"""Performance-informed variance reduction gradient.

    .. math:: (G w)_k = \sqrt{p_k / w_k}, \quad p = K \operatorname{softmax}(s / \tau), \quad
              \tau = \max\Big(\frac{\max s - \min s}{\ln b}, \tau_{\min}\Big)

    The scores s say how much worse than a reference each task does, larger being worse (the paper: the
    relative drop against single-task training, in percent). Give them by :meth:`update_scores`, once an
    epoch; until then p = 1, which is FairGrad with alpha = 2.

    Args:
        bound: b > 1, largest ratio of two tasks' p.
        min_temperature: :math:`\tau_{\min} > 0`, in the unit of the scores.

    Raises:
        ValueError: an option out of its range.

    References:
        Qin et al., *Towards Consistent Multi-Task Learning: Unlocking the Potential of Task-Specific
        Parameters*, CVPR 2025.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"scores": (-1,)}
    card = Card(
        id="pivrg",
        name="PIVRG",
        heads="unweighted",
        degree=-2 / 3,
        guarantee="every task improves",
        defaults="bound = 2 and min_temperature = 10, within the ranges of the public code.",
        deviations="The public code solves with an absolute tolerance.",
    )

    def __init__(self, bound: float = 2.0, min_temperature: float = 10.0) -> None:
        super().__init__()
        if not bound > 1:
            raise ValueError(f"option 'bound' must be above 1; got {bound}")
        self.bound = bound
        self.min_temperature = positive("min_temperature", min_temperature)

    scores: Tensor

    def update_scores(self, scores: Sequence[float] | Tensor) -> None:
        """Takes how much worse than its reference each task does, larger being worse.

        Args:
            scores: one a task, in the order of the losses.
        """
        given = torch.as_tensor(scores, dtype=torch.float64)
        if not bool(given.isfinite().all()):
            raise ValueError(f"{self.card.id}: scores must be finite; got {given.tolist()}")
        self.scores = given

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        scores = self.recall("scores", gramian.new_zeros(gramian.shape[-1])).to(gramian)
        spread = scores.max() - scores.min()
        temperature = (spread / log(self.bound)).clamp_min(self.min_temperature)
        shares = gramian.shape[-1] * (scores / temperature).softmax(-1)
        return bargaining(gramian, 0.5, shares).accept(gramian, "pivrg")
