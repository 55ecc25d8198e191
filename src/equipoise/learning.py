"""Loss weights that are learned: by whom, and whether they move."""

from __future__ import annotations

import warnings
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from equipoise.methods.base import LossMethod, Method

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
        self._optimizer: torch.optim.Adam | None = None
        self._pending: dict[str, Any] | None = None
        self._network: tuple[weakref.ref[Tensor], int] | None = None
        self._version = 0
        self._steps = 0
        self._settled = not method.learns or bool(self.rate)

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
        return [{"params": list(self._method.parameters()), **options, "weight_decay": 0.0}]

    def objective(
        self, values: Tensor, weights: Tensor, priors: list[float] | None, total: Tensor
    ) -> Tensor:
        """Adds to the weighted sum what the learnable weights are trained on.

        The network sees ``total`` alone, the weights see the method's own objective at constant losses.

        Args:
            values: the losses, ``Tensor[K]``, detached.
            weights: the method's weights with their graph, ``Tensor[K]``.
            priors: of the K tasks; None where they are all 1.
            total: the weighted sum of the losses, its weights constant.
        """
        method = self._method
        if not isinstance(method, LossMethod):
            return total
        weighted = weights * values
        penalty = method.penalty()
        terms = weighted if penalty is None else weighted + penalty
        if priors is not None:
            prior = values.new_tensor(priors)
            weighted, terms = prior * weighted, prior * terms
        objective = terms.sum()
        if self.rate:
            self._step(objective)
            objective = objective.detach()
        return total + objective - weighted.detach().sum()

    def _step(self, objective: Tensor) -> None:
        parameters = list(self._method.parameters())
        if self._optimizer is None:
            self._optimizer = torch.optim.Adam(parameters, lr=self.rate)
            if self._pending is not None:
                self._optimizer.load_state_dict(self._pending)
                self._pending = None
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(objective, parameters), strict=True
        ):
            parameter.grad = gradient
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any] | None:
        """The optimiser's state, for ``state_dict``."""
        return self._pending if self._optimizer is None else self._optimizer.state_dict()

    def restore(self, state: dict[str, Any] | None) -> None:
        """Restores it."""
        self._optimizer = None
        self._pending = state

    def watch(self, loss: Tensor) -> None:
        """Warns, once, when the network is being trained and the weights are not."""
        if self._settled:
            return
        version = sum(p._version for p in self._method.parameters())
        network = self._network and self._network[0]()
        if network is None:
            leaf = _some_leaf(loss)
            if leaf is not None:
                self._network = (weakref.ref(leaf), leaf._version)
                self._version = version
            return
        if version != self._version:
            self._settled = True
        elif network._version != self._network[1]:  # type: ignore[index]
            self._network = (weakref.ref(network), network._version)
            self._steps += 1
            if self._steps >= _PATIENCE:
                self._settled = True
                warnings.warn(
                    f"the learnable weights of '{self._method.card.id}' have not moved in {self._steps} "
                    "optimiser steps of the network: no optimiser has them. Add "
                    "*balancer.param_groups() to your optimiser's groups, or use self_optimized=True",
                    stacklevel=5,
                )


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
