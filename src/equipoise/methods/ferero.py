"""FERERO: every loss down as far as can be, while all of them approach the ray of a preference."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from equipoise.methods.base import Card, GramianMethod
from equipoise.methods.options import PerTask, not_negative
from equipoise.methods.upgrad import preferred
from equipoise.solvers.ray import towards_ray


class FERERO(GramianMethod):
    r"""Preference-guided multi-objective learning, as vector optimisation under a constraint.

    The losses shall lie on the ray of the preference p: :math:`h = B L = 0`, where the rows of B span
    what is orthogonal to p. The update takes h down at the rate :math:`\gamma`, and with that the worst
    of the losses down as far as can be:

    .. math:: d = \operatorname{argmax}_d\ \min_k \langle g_k, d \rangle - \tfrac12 \|d\|^2
              \quad \text{s.t.} \quad B J d = \gamma B L

    Its dual, with which the paper works, gives the weights :math:`w = \lambda + B^\top \nu`, the
    minimiser of :math:`\tfrac12 \|J^\top w\|^2 - \gamma \nu^\top B L` over :math:`\lambda \in \Delta`
    and all :math:`\nu`. Weights may be negative, and B is of no matter beyond p.

    Where dependent gradients cannot meet the constraint, it is met as nearly as can be; see
    :func:`equipoise.solvers.ray.towards_ray`.

    Args:
        preference: p, not negative, one a task, in the space of the losses: a larger one allows a
            larger loss. Only ratios matter. None is the same for all.
        rate: :math:`\gamma`, not negative. With a learning rate :math:`\eta`, a step leaves
            :math:`1 - \eta \gamma` of the distance to the ray.

    Raises:
        ValueError: an option out of its range or of the wrong length.

    References:
        Chen et al., *FERERO: A Flexible Framework for Preference-Guided Multi-Objective Learning*,
        NeurIPS 2024, arXiv:2412.01773.
    """

    card = Card(
        id="ferero",
        name="FERERO",
        heads="weighted",
        guarantee="the distance of the losses to the preference's ray shrinks at the rate gamma",
        defaults="Equal preference: ours. rate = 1, as in the official code.",
        deviations=(
            "The official code, for two tasks, takes gradient steps on the dual and brings the absolute "
            "weights to sum 1; here the dual is exact. Cones and inequality constraints are left out."
        ),
    )

    def __init__(self, preference: Sequence[float] | None = None, rate: float = 1.0) -> None:
        super().__init__()
        self.preference = None if preference is None else PerTask("preference", preference)
        if self.preference is not None and (
            bool((self.preference.exact < 0).any()) or not bool(self.preference.exact.any())
        ):
            raise ValueError(
                f"option 'preference' takes one number a task, none below 0 and not all 0; got {preference}"
            )
        self.rate = not_negative("rate", rate)

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        exact = gramian.double()
        ray = preferred(self, self.preference, exact, losses.to(exact))
        ray = ray / ray.norm(dim=-1, keepdim=True).clamp_min(1e-300)
        found = towards_ray(exact, self.rate * losses.to(exact), ray)
        return found.accept(gramian, "ferero").to(gramian)
