"""MMoE: experts that all tasks share, and a gate for each task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.nn.experts import Gate, Looks, Source, at_least, divided, mixed
from equipoise.nn.multitask import MultiTask, Part
from equipoise.nn.stages import by_task, rejoined
from equipoise.nn.trunk import Share, Trunk


class MMoE(MultiTask):
    r"""Multi-gate mixture of experts: each task mixes the same n experts with weights of its own.

    .. math:: z_k(x) = \sum_{i=1}^{n} \operatorname{softmax}(W_k \, v(x))_i \; e_i(x)

    An expert is a copy of the trunk. In the paper :math:`v(x)` is the input, a vector: that is
    ``gate="input"``, which needs its size. The default works for vectors, tokens and maps alike: :math:`v`
    is the mean of what the experts return, over experts and over space or tokens.

    Args:
        trunk: of which every expert is a copy.
        heads: by task.
        experts: their number n.
        gate: what gates look at: ``"experts"``, ``"input"``, or ``"static"`` (nothing: weights that are the
            same for every example).
        inputs: size of the flattened input, for ``gate="input"``.
        bottom: number of stages that come before the experts and exist once; ``gate="input"`` then looks
            at the mean over space of what these return.

    Raises:
        ValueError: an option is out of its range, or ``inputs`` is missing.

    References:
        Ma et al., *Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts*,
        KDD 2018, doi:10.1145/3219819.3220007 (not on arXiv).
    """

    def __init__(
        self,
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        *,
        experts: int = 3,
        gate: Source = "experts",
        inputs: int | None = None,
        bottom: int = 0,
    ) -> None:
        super().__init__(heads)
        at_least(experts=(experts, 1))
        self.bottom, (self.experts,) = divided(trunk, bottom, [experts])
        before = trunk.channels[bottom - 1] if bottom else None
        self.looks = Looks(gate, inputs, trunk.features, before)
        self.gates = by_task({task: self.gate(experts, self.looks.size) for task in self.heads})

    @classmethod
    def over(
        cls,
        trunk: Trunk,
        heads: Mapping[str, nn.Module],
        *,
        experts: int = 3,
        gate: Source = "experts",
        inputs: int | None = None,
        bottom: int = 0,
    ) -> MMoE:
        """The network over a trunk; the options are those of the class."""
        return cls(trunk, heads, experts=experts, gate=gate, inputs=inputs, bottom=bottom)

    def gate(self, experts: int, size: int | None) -> nn.Module:
        """A fresh gate, from a vector of some size (None: from nothing) to weights of the experts."""
        return Gate(experts, size)

    def reached(self, task: str) -> Iterable[Part]:
        """See :meth:`MultiTask.reached`."""
        return [self.bottom, self.experts, self.gates[task], self.heads[task]]

    def forward(
        self, inputs: Any, share: Share | None = None, tasks: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Outputs by task.

        Args:
            inputs: what the trunk takes.
            share: splits what the experts return, ``Tensor[B, n, ...]``, into a view for each task; with a
                trained bottom that gates look at, a mapping of that (``"experts"``) and of what the bottom
                returns (``"below"``).
            tasks: whose outputs are wanted; None for all.
        """
        below = self.bottom(inputs)
        outputs, whole = self.experts.outputs(below)
        views = self.looks.views(self, torch.stack(outputs, 1), below, share, self.wanted(tasks))
        read = {}
        for task, (stacked, base) in views.items():
            weights: Tensor = self.gates[task](self.looks.vector(stacked, base))
            read[task] = rejoined(mixed(stacked, weights), whole)
        return self.read(read)
