"""Low-rank adapters of each task's own, around the layers of one trunk."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from equipoise.nn.experts import at_least
from equipoise.nn.multitask import MultiTask, Part, refuse_share
from equipoise.nn.stages import by_task
from equipoise.nn.trunk import Share, Trunk


class Adapters(MultiTask):
    r"""One trunk, whose linear and convolutional layers every task changes by a matrix of low rank.

    .. math:: W_k = W + \frac{\alpha}{r} B_k A_k, \quad A_k \in \mathbb{R}^{r \times n}, \;
        B_k \in \mathbb{R}^{m \times r}

    for each layer's weight, seen as an m x n matrix (a convolution's has a row for each output channel).
    :math:`B_k` starts at zero, so every task starts with the trunk itself. The trunk is passed once for
    each task.

    A frozen trunk leaves nothing that tasks share: its tasks train apart, and methods that look at task
    gradients have nothing to balance. Give it trained weights, then: ``Trunk.of(lambda:
    copy.deepcopy(pretrained), features)``.

    Args:
        trunk: passed with each task's adapters.
        heads: by task.
        rank: r; a layer whose matrix has a smaller side gets that.
        alpha: scale of the change; None: the rank.
        frozen: whether the trunk keeps its weights.
        only: parts of layers' names, such as ``"query"``; layers with none of them in their name get no
            adapter.
            Empty: all.

    Raises:
        ValueError: no layer is left to adapt, or the rank is not positive.

    References:
        Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, ICLR 2022, arXiv:2106.09685.
        Agiza, Neseem, Reda, *MTLoRA: A Low-Rank Adaptation Approach for Efficient Multi-Task Learning*, CVPR
        2024, arXiv:2403.20320.
    """

    def __init__(
        self,
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        *,
        rank: int = 4,
        alpha: float | None = None,
        frozen: bool = False,
        only: Sequence[str] = (),
    ) -> None:
        super().__init__(heads)
        at_least(rank=(rank, 1))
        self.trunk = trunk.build()
        self.frozen = frozen
        if frozen:
            self.trunk.requires_grad_(False)
        layers = [
            name
            for name, module in self.trunk.named_modules()
            if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
            and (not only or any(part in name for part in only))
        ]
        if not layers:
            which = f" with {', '.join(map(repr, only))} in its name" if only else ""
            raise ValueError(
                f"the trunk has no linear or convolutional layer{which} to adapt; its layers are: "
                f"{', '.join(name for name, _ in self.trunk.named_modules() if name)}"
            )
        scale = 1.0 if alpha is None else alpha / rank
        self._layers = layers
        self.adapters = by_task(
            {
                task: nn.ModuleList(
                    Adapter(self.trunk.get_parameter(f"{name}.weight"), rank, scale)
                    for name in layers
                )
                for task in self.heads
            }
        )

    @classmethod
    def over(
        cls,
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        *,
        rank: int = 4,
        alpha: float | None = None,
        frozen: bool = False,
        only: Sequence[str] = (),
    ) -> Adapters:
        """The network over a trunk; the options are those of the class."""
        return cls(trunk, heads, rank=rank, alpha=alpha, frozen=frozen, only=only)

    def reached(self, task: str) -> Iterable[Part]:
        """See :meth:`MultiTask.reached`."""
        return [self.trunk, self.adapters[task], self.heads[task]]

    def forward(
        self, inputs: Any, share: Share | None = None, tasks: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Outputs by task.

        Args:
            inputs: what the trunk takes.
            share: has to be None.
            tasks: whose outputs are wanted; None for all. The trunk is passed for these only.

        Raises:
            ValueError: ``share`` was given.
        """
        refuse_share(share, "every task passes the trunk with weights of its own")
        adapters: Any = self.adapters
        features = {}
        for task in self.wanted(tasks):
            weights = {
                f"{name}.weight": adapter(self.trunk.get_parameter(f"{name}.weight"))
                for name, adapter in zip(self._layers, adapters[task], strict=True)
            }
            features[task] = functional_call(self.trunk, weights, (inputs,))
        return self.read(features)


class Adapter(nn.Module):
    """A change of low rank to one weight.

    Args:
        weight: what it changes, ``Tensor[m, ...]``.
        rank: of the change.
        scale: factor of it.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        self.scale = scale
        self.down = nn.Parameter(weight.new_empty(rank, columns))
        self.up = nn.Parameter(weight.new_zeros(rows, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight as the task sees it."""
        return weight + self.scale * (self.up @ self.down).reshape(weight.shape)
