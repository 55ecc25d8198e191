"""DTP: dynamic task prioritization by a performance indicator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Card, LossMethod
from equipoise.methods.options import PerTask, positive


class DTP(LossMethod):
    r"""Weights difficult tasks more, in the form of the focal loss.

    .. math:: w_k = -(1 - \bar\kappa_k)^{\gamma_k} \log \bar\kappa_k

    with :math:`\bar\kappa_k` the moving average of a performance indicator in (0, 1], such as an
    accuracy, that :meth:`update_scores` is given. A task without a score has the weight 1.

    Args:
        gamma: :math:`\gamma`, one number or one a task.
        alpha: share of a new score in the moving average, in (0, 1].
        floor: least value of :math:`\bar\kappa`, bounds the weight of a task that gets nothing
            right.

    Raises:
        ValueError: an option is out of its range.

    References:
        Guo et al., *Dynamic Task Prioritization for Multitask Learning*, ECCV 2018.
    """

    state: ClassVar[Mapping[str, tuple[int, ...]]] = {"scores": (-1,)}
    scores: Tensor

    card = Card(
        id="dtp",
        name="DTP",
        heads="weighted",
        degree=0.0,
        defaults="gamma 1, alpha 0.5 and floor 1e-3 are ours: the paper tunes gamma and alpha.",
        deviations="The paper's second level, priorities of examples within a task, is not here.",
    )

    def __init__(
        self, gamma: float | Sequence[float] = 1.0, alpha: float = 0.5, floor: float = 1e-3
    ) -> None:
        super().__init__()
        self.gamma = PerTask("gamma", gamma)
        self.alpha = positive("alpha", alpha)
        self.floor = positive("floor", floor)
        if alpha > 1 or floor >= 1:
            raise ValueError(
                f"option 'alpha' must not be above 1 and 'floor' must be below 1; got {alpha} and "
                f"{floor}"
            )

    def update_scores(self, scores: Tensor | Sequence[float]) -> None:
        """Takes the tasks' performance indicators, as often as they are known.

        Args:
            scores: ``Tensor[K]`` in [0, 1], larger is better; NaN leaves a task's score as it is.

        Raises:
            ValueError: a score is outside [0, 1].
        """
        new = torch.as_tensor(scores, dtype=torch.get_default_dtype())
        if bool(((new < 0) | (new > 1)).any()):
            raise ValueError(
                f"dtp: scores lie in [0, 1], got {new.tolist()}; turn an error rate e into 1 - e"
            )
        old = self.recall("scores", new)
        new = new.to(old)
        self.scores = torch.where(new.isnan(), old, old + self.alpha * (new - old))

    def weights(self, losses: Tensor) -> Tensor:
        """See :meth:`LossMethod.weights`."""
        if not self.knows("scores"):
            return losses.new_ones(losses.shape)
        kappa = self.recall("scores", torch.full_like(self.scores, torch.nan)).to(losses)
        kappa = kappa.clamp(min=self.floor)
        focal = -((1 - kappa) ** self.gamma.of(self, losses)) * kappa.log()
        return focal.nan_to_num(nan=1.0).expand(losses.shape).clone()
