"""Trimmed mean: entry by entry, the mean without the extremes."""

from __future__ import annotations

from torch import Tensor

from equipoise.methods.base import Card, JacobianMethod


class TrimmedMean(JacobianMethod):
    r"""Coordinate-wise trimmed mean of the task gradients.

    .. math:: d_p = \frac{1}{K - 2b} \sum_{k = b + 1}^{K - b} g_{(k) p}, \qquad
              g_{(1) p} \le \dots \le g_{(K) p}

    Args:
        trim_number: b >= 0; where it would leave no task, as many are left out as leaves the median.

    Raises:
        ValueError: ``trim_number`` is negative.

    References:
        Yin et al., *Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates*, ICML
        2018, arXiv:1803.01498.
    """

    card = Card(
        id="trimmed_mean",
        name="Trimmed mean",
        heads="unweighted",
        guarantee="bounded influence of b of the gradients at every entry",
        defaults="trim_number = 1, the smallest that trims.",
        torchjd="TrimmedMean",
    )

    def __init__(self, trim_number: int = 1) -> None:
        super().__init__()
        if trim_number < 0:
            raise ValueError(f"option 'trim_number' must not be below 0; got {trim_number}")
        self.trim_number = trim_number

    def combine(self, jacobian: Tensor, losses: Tensor) -> Tensor:
        """See :meth:`JacobianMethod.combine`."""
        tasks = jacobian.shape[-2]
        b = min(self.trim_number, (tasks - 1) // 2)
        return jacobian.sort(-2)[0][..., b : tasks - b, :].mean(-2)
