"""DualProj: the mean gradient projected to where no task gets worse."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import PerTask
from equipoise.methods.upgrad import preferred
from equipoise.solvers import nonnegative_qp


class DualProj(GramianMethod):
    r"""Projection of the weighted gradient on the dual cone of the task gradients.

    .. math:: d = \operatorname{argmin}_{J d \ge 0} \|d - J^\top u\|

    It is the step of gradient episodic memory, with all tasks on the same footing and no margin.

    Args:
        preference: u, one number or one a task; None is 1 / K.

    References:
        Lopez-Paz and Ranzato, *Gradient Episodic Memory for Continual Learning*, NeurIPS 2017,
        arXiv:1706.08840.
    """

    card = Card(
        id="dualproj",
        name="DualProj",
        heads="unweighted",
        degree=0.0,
        guarantee="no task gets worse: <g_k, d> >= 0",
        defaults="Equal preference 1 / K, as in TorchJD.",
        deviations="TorchJD adds 1e-4 to the Gramian and does not project small gradients.",
        torchjd="DualProj",
    )

    def __init__(self, preference: float | Sequence[float] | None = None) -> None:
        super().__init__()
        self.preference = None if preference is None else PerTask("preference", preference)

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        u = preferred(self, self.preference, gramian, losses)
        row = u.unsqueeze(-2)
        solution = nonnegative_qp(gramian, row @ gramian, row.abs() @ gramian.abs())
        added = solution.accept(gramian, "dualproj")
        return u + added.squeeze(-2)
