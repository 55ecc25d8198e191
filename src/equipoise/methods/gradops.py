"""GradOPS: a task gradient in conflict keeps only what is orthogonal to all the others."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.solvers import Solution, complements
from equipoise.solvers.active_set import SIGN
from equipoise.solvers.scaling import cosines


class GradOPS(GramianMethod):
    r"""Gradient deconfliction via orthogonal projections onto subspaces.

    .. math:: g_i' = \begin{cases} g_i - \operatorname{proj}_{S_i} g_i & \text{if }
              \langle g_i, g_j \rangle < 0 \text{ for some } j \\ g_i & \text{else} \end{cases},
              \quad S_i = \operatorname{span}\{g_j : j \ne i\}, \qquad
              d = \sum_i w_i g_i'

    No :math:`g_i'` has a negative inner product with any :math:`g_j`, whatever the order of the tasks,
    so neither has d, for any :math:`w \ge 0`. ``alpha`` weights by what the plain sum
    :math:`\bar d = \sum_i g_i'` does for each task,

    .. math:: w_i = \frac{R_i^\alpha}{\tfrac1K \sum_j R_j^\alpha}, \qquad
              R_i = \frac{\langle \bar d, g_i \rangle}{\|g_i\|^2} :

    0 leaves the sum as it is, above 0 the tasks that gain most get more, below 0 those that gain least.
    Tasks with :math:`g_i' = 0` take no part. That is a gradient in conflict within the span of the
    others, such as two opposite ones, and every one of more dependent tasks than parameters: then the
    update may be 0.

    Args:
        alpha: power of the gains, any finite number.

    Raises:
        ValueError: ``alpha`` is not finite.

    References:
        Zhu et al., *Gradient Deconfliction via Orthogonal Projections onto Subspaces For Multi-task
        Learning*, WSDM 2025, arXiv:2503.03438.
    """

    card = Card(
        id="gradops",
        name="GradOPS",
        equation=(
            r"d = \sum_i w_i g_i', \quad g_i' = g_i - G_{iS} G_{SS}^+ J_S \ "
            r"(S = \{j \ne i\}, \text{ for } i \text{ in conflict})"
        ),
        heads="unweighted",
        degree=0.0,
        guarantee="no task gets worse: <g_k, d> >= 0",
        defaults="alpha = 0, the plain sum.",
        deviations=(
            "The paper trades tasks off by weights with one parameter alpha; how it measures the "
            "tasks could not be checked against code, and the gain R_i, relative to what the task's own "
            "gradient would bring, is our reading. Cosines within rounding of 0 are no conflict."
        ),
    )

    def __init__(self, alpha: float = 0.0) -> None:
        super().__init__()
        if not -torch.inf < alpha < torch.inf:
            raise ValueError(f"option 'alpha' takes a finite number; got {alpha}")
        self.alpha = alpha

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        conflict = (cosines(gramian.double())[0] < -SIGN).any(-1)
        rows = torch.eye(gramian.shape[-1], dtype=gramian.dtype, device=gramian.device)
        rows = rows.expand_as(gramian)
        if conflict.any().tolist():
            apart, residual = complements(gramian)
            solution = Solution(
                torch.where(conflict.unsqueeze(-1), apart, rows),
                residual.masked_fill(~conflict, 0.0),
            )
            rows = solution.accept(gramian, "gradops")
        if self.alpha == 0:
            return rows.sum(-2)
        return (rows * self._shares(rows, gramian).unsqueeze(-1)).sum(-2)

    def _shares(self, rows: Tensor, gramian: Tensor) -> Tensor:
        squares = gramian.diagonal(dim1=-2, dim2=-1)
        gains = (gramian @ rows.sum(-2).unsqueeze(-1)).squeeze(-1)
        part = (rows != 0).any(-1) & (squares > 0) & (gains > 0)
        relative = torch.where(part, gains / squares, 1.0).double().log()
        shares = (self.alpha * relative).masked_fill(~part, -torch.inf).softmax(-1)
        return (shares * part.sum(-1, keepdim=True)).nan_to_num(nan=0.0).to(gramian)
