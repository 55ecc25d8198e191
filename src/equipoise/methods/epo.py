"""EPO: towards the ray of losses that a preference asks for, and down along it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import PerTask, not_negative, off_zero
from equipoise.methods.upgrad import preferred
from equipoise.solvers import Solution, simplex_lp
from equipoise.solvers.active_set import SIGN


class EPO(GramianMethod):
    r"""Exact Pareto optimal search: all :math:`r_k L_k` equal, on the Pareto front.

    With :math:`\hat l_k = r_k L_k / \sum_j r_j L_j`, the non-uniformity
    :math:`\mu = \sum_k \hat l_k \log(K \hat l_k)` and the adjustments
    :math:`a_k = r_k (\log(K \hat l_k) - \mu)`, a linear programme gives the weights:

    .. math:: \text{balance } (\mu > \epsilon): \quad &
              \max_{w \in \Delta} w^\top G a \quad \text{s.t.} \quad
              (G w)_j \ge \begin{cases} 0 & r_j L_j \text{ is largest} \\
              (G a)_j & \text{else, where } (G a)_j \le 0 \end{cases} \\
              \text{dominance}: \quad &
              \max_{w \in \Delta} 1^\top G w \quad \text{s.t.} \quad G w \ge 0, \quad
              w^\top G a \ge \min(0, \max_j (G a)_j)

    In balance mode, where no :math:`(G a)_j` is positive, all of :math:`G w \ge 0` is asked for. The
    last constraint of the dominance mode keeps the balance that was reached; ``relaxed`` drops it, and
    so does a step in which it cannot hold together with the others. The min-norm point satisfies all
    others, so there always is an answer; where several vertices are optimal (all gradients 0, or
    equal), one is returned. A loss of exactly 0 counts as 1e-8.

    Args:
        preference: r, positive, one a task: a larger one asks for a smaller loss. Only ratios matter.
            None is the same for all.
        epsilon: non-uniformity up to which the losses count as balanced, not negative.
        relaxed: whether the dominance mode may lose balance.

    Raises:
        ValueError: an option out of its range; a negative loss.

    References:
        Mahapatra and Rajan, *Multi-Task Learning with User Preferences: Gradient Descent with
        Controlled Ascent in Pareto Optimization*, ICML 2020.
    """

    least_loss = "zero"
    card = Card(
        id="epo",
        name="EPO",
        equation=(
            r"\max_{w \in \Delta} w^\top G a, \quad a_k = r_k (\log(K \hat l_k) - \mu), \quad "
            r"\hat l \propto r L \quad (\mu > \epsilon)"
        ),
        heads="weighted",
        weight_sum="1",
        degree=0.0,
        guarantee=(
            "the task furthest above its preference never gets worse; once balanced, no task does"
        ),
        defaults="Equal preference; epsilon = 1e-4 and the restricted dominance mode, as published.",
        deviations=(
            "The official code takes the preference in the scale it comes in, which the bounds of the "
            "balance mode depend on; here it is brought to sum one. It multiplies the weights by K, and "
            "falls back to the preference where its solver fails."
        ),
    )

    def __init__(
        self,
        preference: Sequence[float] | None = None,
        epsilon: float = 1e-4,
        relaxed: bool = False,
    ) -> None:
        super().__init__()
        self.preference = None if preference is None else PerTask("preference", preference)
        if self.preference is not None and not bool((self.preference.exact > 0).all()):
            raise ValueError(
                f"option 'preference' takes a number above 0 for every task; got {preference}"
            )
        self.epsilon = not_negative("epsilon", epsilon)
        self.relaxed = relaxed

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        exact = gramian.double()
        # A cosine within rounding of 0 is 0, or a constraint would ask for the rounding of another.
        norms = exact.diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt()
        known = exact.abs() > SIGN * norms.unsqueeze(-1) * norms.unsqueeze(-2)
        exact = torch.where(known | ~exact.isfinite(), exact, 0.0)
        r = preferred(self, self.preference, exact, losses.to(exact))
        r = r / r.sum(-1, keepdim=True)
        weighted = r * off_zero(losses).to(exact)
        logs = (weighted / weighted.mean(-1, keepdim=True)).log()
        uneven = (logs.exp() * logs).mean(-1, keepdim=True)
        adjustment = (r * (logs - uneven)).unsqueeze(-1)
        pull = (exact @ adjustment).squeeze(-1)
        noise = SIGN * (exact.abs() @ adjustment.abs()).squeeze(-1)
        pull = torch.where(pull.abs() > noise, pull, 0.0)
        balance = uneven.squeeze(-1) > self.epsilon
        if balance.all().tolist():
            solution = _balance(exact, pull, weighted)
        else:
            solution = self._dominance(exact, pull)
            if balance.any().tolist():
                solution = _either(balance, _balance(exact, pull, weighted), solution)
        return solution.accept(gramian, "epo").to(gramian)

    def _dominance(self, gramian: Tensor, pull: Tensor) -> Solution:
        gain, zero = gramian.sum(-2), torch.zeros_like(pull)
        free = simplex_lp(gain, gramian, zero)
        if self.relaxed:
            return free
        least = pull.amax(-1, keepdim=True).clamp_max(0.0)
        kept = simplex_lp(
            gain, torch.cat([gramian, pull.unsqueeze(-2)], -2), torch.cat([zero, least], -1)
        )
        return _either(kept.residual.isfinite(), kept, free)


def _either(first: Tensor, one: Solution, other: Solution) -> Solution:
    return Solution(
        torch.where(first.unsqueeze(-1), one.x, other.x),
        torch.where(first, one.residual, other.residual),
    )


def _balance(gramian: Tensor, pull: Tensor, weighted: Tensor) -> Solution:
    helped = pull > 0
    worst = weighted >= weighted.amax(-1, keepdim=True) * (1 - SIGN)
    bounds = torch.where(helped, -torch.inf, pull).masked_fill(worst, 0.0)
    bounds = torch.where(helped.any(-1, keepdim=True), bounds, 0.0)
    return simplex_lp(pull, gramian, bounds)
