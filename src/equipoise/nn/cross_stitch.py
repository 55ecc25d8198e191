"""Cross-stitch units: a network for each task, whose features are mixed by learned scalars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from equipoise.nn.columns import Columns
from equipoise.nn.stages import channel_dim
from equipoise.nn.trunk import Trunk


class CrossStitch(Columns):
    r"""A copy of the trunk for each task; after a stage, every copy goes on with a mixture of all.

    .. math:: \tilde x_k = \sum_{l=1}^{K} \alpha_{kl} \, x_l

    With two tasks the paper starts from :math:`\alpha_{kk} = 0.9` and 0.1 beside the diagonal; with K
    tasks the 0.1 is divided among the K - 1 others here, so that rows sum to one. Row k of a stitch is a
    parameter of its
    own: that of the last one belongs to task k alone.

    Args:
        trunk: of which every task gets a copy.
        heads: by task.
        after: stages after which there is a stitch, counted from 0; None: after each.
        own: :math:`\alpha_{kk}` at the start.
        channelwise: whether every channel has units of its own.

    References:
        Misra et al., *Cross-stitch Networks for Multi-task Learning*, CVPR 2016, arXiv:1604.03539.
    """

    def __init__(
        self,
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        *,
        after: Sequence[int] | None = None,
        own: float = 0.9,
        channelwise: bool = False,
    ) -> None:
        count = len(heads)

        def stitch(stage: int, k: int) -> Stitch:
            return Stitch(count, k, own, trunk.channels[stage], channelwise)

        super().__init__(trunk, heads, after, stitch)

    @classmethod
    def over(
        cls,
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        *,
        after: Sequence[int] | None = None,
        own: float = 0.9,
        channelwise: bool = False,
    ) -> CrossStitch:
        """The network over a trunk; the options are those of the class."""
        return cls(trunk, heads, after=after, own=own, channelwise=channelwise)


class Stitch(nn.Module):
    """One row of a cross-stitch unit.

    Args:
        count: number of tasks K.
        k: position of the task whose row it is.
        own: the entry of that task at the start.
        channels: of the features.
        channelwise: whether the weights are ``Tensor[K, C]`` instead of ``Tensor[K]``.
    """

    def __init__(self, count: int, k: int, own: float, channels: int, channelwise: bool) -> None:
        super().__init__()
        row = torch.full((count,), (1 - own) / max(count - 1, 1))
        row[k] = own
        self.channels = channels
        self.weight = nn.Parameter(row[:, None].repeat(1, channels) if channelwise else row)

    def forward(self, columns: Sequence[Tensor]) -> Tensor:
        """The mixture of the K columns' features."""
        weights: Tensor = self.weight
        if weights.ndim == 2:
            dim = channel_dim(columns[0], self.channels, "a stitched stage")
            weights = weights.reshape(
                len(weights), *(-1 if d == dim else 1 for d in range(columns[0].ndim))
            )
        mixed = weights[0] * columns[0]
        for weight, column in zip(weights[1:], columns[1:], strict=True):
            mixed = mixed + weight * column
        return mixed
