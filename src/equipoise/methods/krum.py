"""Krum: the mean of the task gradients that lie closest together."""

from __future__ import annotations

from torch import Tensor

from equipoise.methods.base import Card, GramianMethod


class Krum(GramianMethod):
    r"""Multi-Krum: robust to a few task gradients that are far off.

    .. math:: s_i = \sum_{j \in N_i} \|g_i - g_j\|^2, \qquad w_i = \frac{[i \text{ among the m
              lowest } s]}{m}

    where :math:`N_i` are the K - f - 2 nearest others (at least one). Ties go to the earlier task.

    Args:
        n_byzantine: f, how many gradients may be anything.
        n_selected: m, how many are averaged.

    Raises:
        ValueError: an option out of its range; fewer tasks than f + 3 (where f > 0) or than m.

    References:
        Blanchard et al., *Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent*,
        NeurIPS 2017, arXiv:1703.02757.
    """

    symmetric = False
    card = Card(
        id="krum",
        name="Krum",
        heads="unweighted",
        weight_sum="1",
        degree=0.0,
        guarantee="bounded influence of f of the gradients",
        defaults="n_byzantine = 0 and n_selected = 1 (plain Krum).",
        deviations="TorchJD sums distances, the paper their squares; other tasks may be selected.",
        torchjd="Krum",
    )

    def __init__(self, n_byzantine: int = 0, n_selected: int = 1) -> None:
        super().__init__()
        if n_byzantine < 0 or n_selected < 1:
            raise ValueError(
                f"options n_byzantine >= 0 and n_selected >= 1; got {n_byzantine} and {n_selected}"
            )
        self.n_byzantine = n_byzantine
        self.n_selected = n_selected

    def weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`GramianMethod.weights`."""
        tasks, f, m = gramian.shape[-1], self.n_byzantine, self.n_selected
        if tasks < m or (f and tasks < f + 3):
            raise ValueError(
                f"krum with n_byzantine={f} and n_selected={m} needs at least "
                f"{max(m, f + 3 if f else 1)} tasks; there are {tasks}"
            )
        near = min(max(tasks - f - 2, 1), tasks - 1)
        squares = gramian.diagonal(dim1=-2, dim2=-1)
        distances = squares.unsqueeze(-1) + squares.unsqueeze(-2) - 2 * gramian
        # The distance to itself is 0, the smallest there is: leave it in and count it.
        ordered = distances.clamp_min(0.0).sort(-1)[0]
        scores = ordered[..., : near + 1].sum(-1)
        chosen = scores.argsort(dim=-1, stable=True)[..., :m]
        return gramian.new_zeros(scores.shape).scatter(-1, chosen, 1 / m)
