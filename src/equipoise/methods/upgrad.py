"""UPGrad: every task gradient projected to where no task gets worse, then summed."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import PerTask
from equipoise.solvers import dual_cone


class UPGrad(GramianMethod):
    r"""Unconflicting projection of gradients.

    .. math:: d = \sum_k u_k \operatorname{proj}(g_k), \qquad
              \operatorname{proj}(g) = \operatorname{argmin}_{J d \ge 0} \|d - g\|

    Args:
        preference: u, one number or one a task; None is 1 / K.

    References:
        Quinton and Rey, *Jacobian Descent for Multi-Objective Optimization*, 2024,
        arXiv:2406.16232.
    """

    card = Card(
        id="upgrad",
        name="UPGrad",
        heads="unweighted",
        degree=0.0,
        guarantee="no task gets worse: <g_k, d> >= 0",
        defaults="Equal preference 1 / K, as in TorchJD.",
        deviations=(
            "TorchJD and LibMTL add 1e-4 to the Gramian, up to 15 % of the direction on skewed "
            "gradients, and do not project small ones."
        ),
        libmtl="UPGrad",
        torchjd="UPGrad",
    )

    def __init__(self, preference: float | Sequence[float] | None = None) -> None:
        super().__init__()
        self.preference = None if preference is None else PerTask("preference", preference)

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        u = preferred(self, self.preference, gramian, losses)
        added = dual_cone(gramian).accept(gramian, "upgrad")
        return u + (u.unsqueeze(-2) @ added).squeeze(-2)


def preferred(
    method: GramianMethod, preference: PerTask | None, gramian: Tensor, losses: Tensor
) -> Tensor:
    """The preference of every task, ``Tensor[..., K]``; 1 / K where none is given."""
    if preference is None:
        return gramian.new_full(gramian.shape[:-1], 1 / gramian.shape[-1])
    return preference.of(method, losses).to(gramian).expand(gramian.shape[:-1])
