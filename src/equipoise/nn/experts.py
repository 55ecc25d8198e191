"""Mixtures of experts: copies of the trunk, and gates that weight what they return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from equipoise.nn.multitask import MultiTask
from equipoise.nn.stages import channel_dim, copies, parted, pooled, rejoined
from equipoise.nn.trunk import Share, Trunk

# What a gate looks at.
Source = Literal["experts", "input", "static"]


class Experts(nn.ModuleList):
    """Some experts over the same inputs."""

    def outputs(self, inputs: Any) -> tuple[list[Tensor], Any]:
        """What each returns, and the first's whole output where that is more than a tensor."""
        found = [parted(expert(inputs), "an expert") for expert in self]
        return [tensor for tensor, _ in found], found[0][1] if found else None


class Gate(nn.Module):
    r"""Weights of n experts for every example, :math:`\operatorname{softmax}(W x)`.

    Args:
        count: number of experts n.
        size: of the vector that the gate looks at; None for weights that are the same for every example.
    """

    def __init__(self, count: int, size: int | None) -> None:
        super().__init__()
        self.scores: nn.Module | nn.Parameter
        if size is None:
            self.scores = nn.Parameter(torch.zeros(1, count))
        else:
            self.scores = nn.Linear(size, count, bias=False)

    def forward(self, vector: Tensor | None) -> Tensor:
        """Weights ``Tensor[B, n]``, or ``Tensor[1, n]`` for all examples."""
        scores: Any = self.scores
        weights: Tensor = (scores if vector is None else scores(vector)).softmax(-1)
        return weights


class Looks:
    """What the gates of a network look at.

    Args:
        source: ``"experts"``: the mean of what the gate's own experts return, over space or tokens and over
            experts. ``"input"``: what the experts are given; flattened where that is the network's input,
            and else its mean over space or tokens. ``"static"``: nothing.
        inputs: size of the flattened input of the network, for ``"input"``.
        features: channels of what the experts return.
        before: channels of what the experts are given; None where that is the network's input.

    Raises:
        ValueError: there is no such source, or the size of the inputs is missing or not needed.
    """

    def __init__(
        self, source: Source, inputs: int | None, features: int, before: int | None
    ) -> None:
        if source not in get_args(Source):
            raise ValueError(f"gate={source!r} is none of {', '.join(map(repr, get_args(Source)))}")
        if source == "input" and before is None and inputs is None:
            raise ValueError(
                "gate='input' looks at the flattened input, whose size the trunk does not tell; give it as "
                "inputs=, or use gate='experts'"
            )
        self.source = source
        self._inputs, self._features, self._before = inputs, features, before

    @property
    def size(self) -> int | None:
        """Of the vector; None where there is none."""
        sizes = {"experts": self._features, "static": None, "input": self._before or self._inputs}
        return sizes[self.source]

    def views(
        self,
        network: MultiTask,
        stacked: Tensor,
        below: Any,
        share: Share | None,
        tasks: list[str],
        own: bool = False,
    ) -> dict[str, tuple[Tensor, Any]]:
        """What experts that all tasks share returned, and what was below them, as each task sees them.

        Args:
            network: whose tasks they are.
            stacked: ``Tensor[B, n, ...]``.
            below: what the experts were given.
            share: hands out views; what is below is among the features where stages made it, and it is read.
            tasks: who gets them.
            own: whether tasks have experts of their own, which read what is below.
        """
        if self._before is not None and (own or self.source == "input"):
            tensor, whole = parted(below, "the stage below the experts")
            if tensor.requires_grad:
                both = network.views({"experts": stacked, "below": tensor}, share, tasks)
                return {
                    task: (view["experts"], rejoined(view["below"], whole))
                    for task, view in both.items()
                }
        views = network.views(stacked, share, tasks)
        return {task: (view, below) for task, view in views.items()}

    def vector(self, stacked: Tensor, below: Any) -> Tensor | None:
        """What a gate looks at, ``Tensor[B, F]``; None for nothing.

        Args:
            stacked: ``Tensor[B, n, ...]``, what the gate's experts returned.
            below: what they were given.
        """
        if self.source != "experts":
            return self._outside(below)
        dim = channel_dim(stacked[:, 0], self._features, "an expert") + 1
        return stacked.mean([d for d in range(1, stacked.ndim) if d != dim])

    def _outside(self, inputs: Any) -> Tensor | None:
        if self.source != "input":
            return None
        tensor, _ = parted(inputs, "the input")
        if self._before is not None:
            return pooled(tensor, self._before, "the stage below the experts")
        flat = tensor.flatten(1)
        if flat.shape[1] != self._inputs or not flat.is_floating_point():
            raise ValueError(
                f"gate='input' was told inputs={self._inputs} and got {tensor.dtype} {list(tensor.shape)}, "
                f"{flat.shape[1]} numbers an example; tell that size, or use gate='experts'"
            )
        return flat


def mixed(stacked: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of experts.

    Args:
        stacked: ``Tensor[B, n, ...]``.
        weights: ``Tensor[B, n]`` or ``Tensor[1, n]``.
    """
    return (weights.reshape(*weights.shape, *[1] * (stacked.ndim - 2)) * stacked).sum(1)


def divided(trunk: Trunk, bottom: int, counts: Sequence[int]) -> tuple[nn.Module, list[Experts]]:
    """The stages that come before the experts, and groups of experts made of the others.

    Args:
        trunk: to be copied.
        bottom: number of stages that all experts share.
        counts: experts in each group.

    Raises:
        ValueError: no stage is left for the experts.
    """
    if not 0 <= bottom < len(trunk.channels):
        raise ValueError(
            f"bottom={bottom}: the trunk has {len(trunk.channels)} stages, of which experts need at least one"
        )
    made = copies(trunk, sum(counts))
    groups, at = [], 0
    for count in counts:
        groups.append(Experts(nn.Sequential(*s[bottom:]) for s in made[at : at + count]))
        at += count
    return nn.Sequential(*made[0][:bottom]), groups


def at_least(**counts: tuple[int, int]) -> None:
    """Raises where there are fewer of something than needed.

    Raises:
        ValueError: naming it.
    """
    for name, (count, least) in counts.items():
        if count < least:
            raise ValueError(f"{name}={count}: {least} or more are needed")
