"""Loss weights that are learned: by whom, and whether they move."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from equipoise.balance.rule import Learned
from equipoise.gradients.graph import reached
from equipoise.methods.base import Method

# Optimiser steps of the network after which weights that never moved are taken for forgotten.
_PATIENCE = 3


class Learning:
    """Trains learnable weights itself, or sees to it that somebody does.

    Args:
        method: the method whose parameters they are.
        self_optimized: True or a learning rate: step them here, by Adam, at every call.
    """

    def __init__(self, method: Method, self_optimized: bool | float) -> None:
        self._method = method
        self.rate = 0.01 if self_optimized is True else float(self_optimized)
        if self.rate and not method.learns:
            raise ValueError(f"self_optimized: '{method.card.id}' has no weights to learn")
        method.self_optimized = bool(self.rate)
        self._optimizer: torch.optim.Adam | None = None
        self._network: tuple[weakref.ref[Tensor], int] | None = None
        self._version = 0
        self._steps = 0
        self._settled = not method.learns or bool(self.rate)

    def __getstate__(self) -> dict[str, Any]:
        # A copy watches its own network.
        return {**self.__dict__, "_network": None}

    @property
    def by(self) -> str:
        """Who trains the weights; empty where none are learned."""
        if not self._method.learns:
            return ""
        return "the balancer" if self.rate else "your optimiser, through param_groups()"

    def parameters(self) -> list[nn.Parameter]:
        """The learnable weights."""
        return list(self._method.parameters())

    def param_groups(
        self, tasks: tuple[str, ...] | None, options: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """One group without weight decay, or none."""
        if not self._method.learns or self.rate:
            return []
        if tasks is None:
            raise ValueError(
                f"'{self._method.card.id}' learns one weight a task, so it must know the tasks first: "
                "Balancer(..., tasks=['segmentation', 'depth'])"
            )
        return [{"params": self.parameters(), **options, "weight_decay": 0.0}]

    def term(self, learned: Learned, values: Tensor, prior: Tensor | None) -> Tensor:
        """What is added to the balanced loss so that the weights are trained.

        The network sees the weighted losses alone, the weights see the method's own objective at constant
        losses.

        Args:
            learned: the weights with their graph.
            values: the losses, ``Tensor[K]``, detached.
            prior: of the K tasks, ``Tensor[K]``; None where they are all 1.
        """
        weighted = learned.weights * values
        terms = weighted if learned.penalty is None else weighted + learned.penalty
        if prior is not None:
            weighted, terms = prior * weighted, prior * terms
        objective = terms.sum()
        if self.rate:
            self._step(objective)
            objective = objective.detach()
        return objective - weighted.detach().sum()

    def _step(self, objective: Tensor) -> None:
        optimizer = self.optimizer()
        for parameter, gradient in zip(
            self.parameters(), torch.autograd.grad(objective, self.parameters()), strict=True
        ):
            parameter.grad = gradient
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self._method.requires_grad_(False)

    def optimizer(self) -> torch.optim.Adam:
        """The Adam that steps the weights here."""
        if self._optimizer is None:
            self._optimizer = torch.optim.Adam(self.parameters(), lr=self.rate)
        return self._optimizer

    # The numbers of an Adam: first and second moment of every entry, and the count of steps.

    def written(self) -> Tensor | None:
        """The optimiser's state, ``Tensor[3, P]``, for ``state_dict``; None where there is none."""
        if not self.rate or not self.parameters():
            return None
        kept = self.optimizer().state
        return torch.cat([_written(kept.get(weights), weights) for weights in self.parameters()], 1)

    def read(self, written: Tensor) -> None:
        """Restores it."""
        self._optimizer = None
        weights = self.parameters()
        sizes = [w.numel() for w in weights]
        pieces = torch.split(written.to(weights[0].device), sizes, dim=1)
        for parameter, (first, second, steps) in zip(weights, pieces, strict=True):
            if not bool(steps[0] > 0):
                continue
            self.optimizer().state[parameter] = {
                "step": steps[0].detach().clone().cpu(),
                "exp_avg": first.clone().view_as(parameter),
                "exp_avg_sq": second.clone().view_as(parameter),
            }

    def watch(self, losses: Sequence[Tensor]) -> None:
        """Warns, once, when the network is being trained and the weights are not.

        Raises:
            RuntimeError: DistributedDataParallel would get gradients of the weights that it does not expect.
        """
        if self._settled:
            return
        version = sum(p._version for p in self.parameters())
        network = self._network and self._network[0]()
        if network is None:
            self._refuse_twice(losses)
            leaf = _some_leaf(losses[0])
            if leaf is not None:
                self._network = (weakref.ref(leaf), leaf._version)
                self._version = version
            return
        if version != self._version:
            self._settled = True
        elif self._network is not None and network._version != self._network[1]:
            self._network = (weakref.ref(network), network._version)
            self._steps += 1
            if self._steps >= _PATIENCE:
                self._settled = True
                warnings.warn(
                    f"the learnable weights of '{self._method.card.id}' have not moved in {self._steps} "
                    "optimiser steps of the network: no optimiser has them. Add "
                    "*balancer.param_groups() to your optimiser's groups, or use self_optimized=True",
                    stacklevel=2,
                )

    def _refuse_twice(self, losses: Sequence[Tensor]) -> None:
        mine = set(map(id, self.parameters()))
        for sink in reached(losses).sinks:
            # What comes out of the wrapped module has not met the weights yet.
            wrapper = sink.ddp_weakref()
            expected = {
                id(p)
                for name, p in wrapper.module.named_parameters()
                if name not in wrapper.parameters_to_ignore
            }
            if wrapper.static_graph or mine.isdisjoint(expected):
                continue
            raise RuntimeError(
                f"the learnable weights of '{self._method.card.id}' are part of a DistributedDataParallel "
                "module whose forward does not use them: with find_unused_parameters=True it takes them for "
                "unused, and their gradient would break it. Call the balancer inside forward, keep it out of "
                "the module and give *balancer.param_groups() to your optimiser, or use self_optimized=True"
            )


def _written(state: dict[str, Any] | None, weights: Tensor) -> Tensor:
    """The numbers of an Adam for one parameter, ``Tensor[3, P]``."""
    zero = torch.zeros_like(weights.detach()).flatten()
    if not state:
        return torch.stack([zero, zero, zero])
    moments = state["exp_avg"].flatten(), state["exp_avg_sq"].flatten()
    return torch.stack([*moments, zero + state["step"].to(zero)])


def _some_leaf(loss: Tensor) -> Tensor | None:
    """A trainable leaf that the loss reaches."""
    stack: list[Any] = [get_gradient_edge(loss).node]
    seen = set()
    while stack:
        node = stack.pop()
        leaf: Tensor | None = getattr(node, "variable", None)
        if leaf is not None:
            return leaf
        if node not in seen:
            seen.add(node)
            stack.extend(below for below, _ in node.next_functions if below is not None)
    return None
