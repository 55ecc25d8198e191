"""The parameters route where parameters are sharded over ranks (FSDP2): K sharded backward passes.

Each pass leaves the task gradient of the whole batch, averaged and sharded, in ``.grad``. The shards are
different entries of one long vector, so the Gramian is the sum of the ranks' Gramians.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from equipoise.gradients.base import Taken, TaskGradients, cut, summed
from equipoise.gradients.features import Share
from equipoise.gradients.graph import reached
from equipoise.gradients.in_sections import InSections
from equipoise.gradients.parameters import AtParameters, Passes
from equipoise.gradients.passes import empty, fill
from equipoise.gradients.shared import Found, SharedParameters
from equipoise.gradients.step import Step


def shards_below(losses: Sequence[Tensor]) -> dict[Tensor, Tensor]:
    """The sharded parameters of those gathered for the graph of the losses; empty where there are none."""
    known = _shards() if "torch.distributed.fsdp" in sys.modules else {}
    if not known:
        return {}
    got = reached(losses)
    leaves = set(got.common).union(*got.own)
    return {leaf: known[leaf] for leaf in leaves if leaf in known}


def _shards() -> dict[Tensor, Tensor]:
    """The sharded parameter of every gathered one that there is."""
    from torch.distributed._composable_state import _module_state_mapping

    found: dict[Tensor, Tensor] = {}
    for reference in list(_module_state_mapping.values()):
        state: Any = reference()
        group = getattr(state, "_fsdp_param_group", None)
        for parameter in getattr(group, "fsdp_params", ()):
            gathered = getattr(parameter, "_unsharded_param", None)
            if gathered is not None:
                found[gathered] = parameter.sharded_param
    return found


class AtShards(AtParameters):
    """The task gradients of one step at sharded parameters.

    Args:
        step: the losses.
        shared: finds the shared parameters.
        how: how the passes are made.
        of: the sharded parameter of every gathered one.
        entrywise: the method that looks at single entries, if it does.
        found: the shared parameters, where they are known from another batch.
    """

    def __init__(
        self,
        step: Step,
        shared: SharedParameters,
        how: Passes,
        of: dict[Tensor, Tensor],
        entrywise: str = "",
        found: Found | None = None,
    ) -> None:
        super().__init__(step, shared, None, how, found, of=of)
        ranks = how.ranks
        assert ranks is not None
        self.over_ranks = ranks.total
        self._entrywise = entrywise
        self._before: dict[Tensor, Tensor | None] = {}

    def take(self) -> Taken:
        """See :meth:`TaskGradients.take`.

        Raises:
            RuntimeError: the call is not ``balancer.backward``.
            ValueError: the method, or the step, cannot be balanced on shards.
        """
        self._refuse()
        found, step = self.found, self._step
        leaves = list(dict.fromkeys([*found.shared, *(p for own in found.own for p in own)]))
        self._before = {leaf: leaf.grad for leaf in leaves}
        factor = 1.0 if self._how.factor is None else self._how.factor
        like = [_local(p) for p in found.shared]
        jacobian = empty(len(step.names), like)
        try:
            self._fill(jacobian, like, leaves, factor)
        finally:
            for leaf, before in self._before.items():
                leaf.grad = before
        sizes = [p.numel() for p in like]
        return Taken([jacobian], jacobian.new_full((len(jacobian),), factor), sizes)

    def _fill(
        self, jacobian: Tensor, like: list[Tensor], leaves: list[Tensor], factor: float
    ) -> None:
        found, step = self.found, self._step
        for k, loss in enumerate(step.present):
            for leaf in leaves:
                leaf.grad = None
            start = torch.full_like(loss, factor)
            torch.autograd.backward(loss, start, retain_graph=k + 1 < len(step.names))
            gradients = [None if p.grad is None else _local(p.grad) for p in found.shared]
            fill(jacobian[k], gradients, like)
            self._heads.append([None if p.grad is None else p.grad / factor for p in found.own[k]])

    def _refuse(self) -> None:
        if self._entrywise:
            raise ValueError(
                f"'{self._entrywise}' looks at single entries of the task gradients, which are sharded over "
                "processes; use a method that looks at inner products, or balance at the features with "
                "balancer.share()"
            )
        if self._how.keep_graph:
            raise RuntimeError(
                "the shared parameters are sharded (FSDP2), so their task gradients take K sharded backward "
                "passes: call balancer.backward(losses) instead of balancer(losses).backward(), or balance "
                "at the features with balancer.share()"
            )
        if self._step.uneven:
            raise ValueError(
                "a process lacks a task of this step, and sharded backward passes need every process; give "
                "every process all tasks, or balance at the features with balancer.share()"
            )
        loose = [p for p in self.found.shared if not hasattr(p, "to_local")]
        if loose or self.found.doubtful:
            raise ValueError(
                "some shared parameters are not sharded or cannot be told from heads; shard the whole model, "
                "and name the shared parameters with shared="
            )

    def deliver(
        self,
        weights: Tensor | None,
        direction: list[Tensor] | None,
        heads: Tensor,
        shown: Tensor,
        gradients: TaskGradients,
    ) -> Tensor:
        """See :meth:`AtParameters.deliver`; ``.grad`` is written here, shard by shard."""
        factor = 1.0 if self._how.factor is None else self._how.factor
        if direction is None and not gradients.asked and weights is heads:
            return self._step.weighted(heads) * factor
        self.taken()
        if direction is None:
            assert weights is not None
            direction = gradients.combine(weights)
        self._write(direction[0] * factor, heads * factor)
        return self._step.light().weighted(shown).requires_grad_()

    def overflowed(self) -> Tensor:
        """See :meth:`AtParameters.overflowed`."""
        (total,) = summed(self.taken().rows)
        ones = torch.ones_like(self._step.values)
        assert self._how.factor is not None
        self._write(total, ones * self._how.factor)
        return self._step.light().weighted(ones).requires_grad_()

    def _write(self, flat: Tensor, heads: Tensor) -> None:
        shared = self.found.shared
        for parameter, piece in zip(shared, cut(flat, [_local(p) for p in shared]), strict=True):
            whole = torch.zeros_like(parameter)
            _local(whole).copy_(piece)
            _add(parameter, whole)
        for leaves, of_task, by in zip(self.found.own, self._heads, heads.tolist(), strict=True):
            for leaf, gradient in zip(leaves, of_task, strict=True):
                if gradient is not None:
                    _add(leaf, gradient * by)


def _add(parameter: Tensor, gradient: Tensor) -> None:
    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def _local(tensor: Any) -> Tensor:
    """This rank's part of a sharded tensor, without a graph."""
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local.detach()


def at_parameters(
    step: Step,
    shared: SharedParameters,
    share: Share | None,
    how: Passes,
    found: Found | None,
    entrywise: str,
) -> AtParameters:
    """The task gradients of a step at its parameters, whole or sharded, kept or not.

    Args:
        step: the losses.
        shared: finds the shared parameters.
        share: the shared features, where they were given.
        how: how the passes are made.
        found: the shared parameters, where they are known from another batch.
        entrywise: the method that looks at single entries, if it does.
    """
    of = shards_below(step.present) if how.ranks is not None else {}
    if of:
        return AtShards(step, shared, how, of, entrywise, found)
    if how.low:
        return InSections(step, shared, share, how, found)
    return AtParameters(step, shared, share, how, found)
