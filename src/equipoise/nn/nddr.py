"""NDDR-CNN: a network for each task, whose features are fused by 1x1 convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from equipoise.nn.columns import Columns
from equipoise.nn.stages import channel_dim
from equipoise.nn.trunk import Trunk


class NDDR(Columns):
    r"""A copy of the trunk for each task; after a stage, neural discriminative dimensionality reduction.

    .. math:: \tilde x_k = \operatorname{BN}\left(W_k \, [x_1; \dots; x_K]\right),
        \quad W_k \in \mathbb{R}^{C \times K C}

    a 1x1 convolution of the K columns' features, concatenated, and batch normalisation. :math:`W_k` starts
    with blocks :math:`\alpha I` for the task's own features and :math:`\beta I` for the others', the
    paper's diagonal start: 0.9 and 0.1 for two tasks; with K tasks
    :math:`\beta = (1 - \alpha) / (K - 1)` here. The paper trains these layers at a higher learning rate
    than the rest, which is left to the optimiser's groups (``network.mixers.parameters()``).

    Args:
        trunk: of which every task gets a copy.
        heads: by task.
        after: stages after which features are fused, counted from 0; None: after each.
        own: :math:`\alpha`.

    References:
        Gao et al., *NDDR-CNN: Layerwise Feature Fusing in Multi-Task CNNs by Neural Discriminative
        Dimensionality Reduction*, CVPR 2019, arXiv:1801.08297.
    """

    def __init__(
        self,
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        *,
        after: Sequence[int] | None = None,
        own: float = 0.9,
    ) -> None:
        count = len(heads)
        super().__init__(
            trunk, heads, after, lambda stage, k: Fusion(count, k, own, trunk.channels[stage])
        )

    @classmethod
    def over(
        cls,
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        *,
        after: Sequence[int] | None = None,
        own: float = 0.9,
    ) -> NDDR:
        """The network over a trunk; the options are those of the class."""
        return cls(trunk, heads, after=after, own=own)


class Fusion(nn.Module):
    """The NDDR layer of one task.

    Args:
        count: number of tasks K.
        k: position of the task.
        own: diagonal of the task's own block at the start.
        channels: of the features.
    """

    def __init__(self, count: int, k: int, own: float, channels: int) -> None:
        super().__init__()
        self.channels = channels
        # Space is flattened, so that one layer serves vectors, tokens and maps.
        self.convolution = nn.Conv1d(count * channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm1d(channels)
        diagonals = torch.full((count,), (1 - own) / max(count - 1, 1))
        diagonals[k] = own
        blocks = torch.cat([diagonal * torch.eye(channels) for diagonal in diagonals], 1)
        with torch.no_grad():
            self.convolution.weight.copy_(blocks[:, :, None])

    def forward(self, columns: Sequence[Tensor]) -> Tensor:
        """The fused features, of the shape of one column's."""
        dim = channel_dim(columns[0], self.channels, "a fused stage")
        first = [x.movedim(dim, 1) for x in columns]
        joined = torch.cat(first, 1)
        fused: Tensor = self.norm(self.convolution(joined.reshape(*joined.shape[:2], -1)))
        return fused.reshape(first[0].shape).movedim(1, dim)
