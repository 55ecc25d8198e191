"""SAMO: task gradients taken where a small step uphill leads, around any method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import grad

from equipoise.gradients.base import TaskGradients
from equipoise.gradients.lookahead import moved, restored, untouched
from equipoise.gradients.parameters import AtParameters, Passes
from equipoise.gradients.passes import Found as Gradients
from equipoise.gradients.ranks import Ranks
from equipoise.gradients.shared import Found, SharedParameters
from equipoise.gradients.step import Step

# Computes the losses of the same batch anew, in the order of the step.
Again = Callable[[], Sequence["Tensor | None"]]


class Uphill(NamedTuple):
    """The perturbation.

    Attributes:
        rho: its length.
        local: the share of the task's own gradient in it.
        eps: the step of that gradient's estimate.
    """

    rho: float
    local: float
    eps: float


class Perturbed(AtParameters):
    r"""Task gradients at perturbed parameters, one perturbation a task.

    .. math::
        \epsilon_k = \rho \frac{p_k}{\|p_k\|}, \quad
        p_{k,n} = (1 - \beta) \, g_n + \beta \, \|g_n\| \frac{\hat g_{k,n}}{\|\hat g_{k,n}\|}

    where :math:`g` is the gradient of the mean loss, :math:`n` runs over parameter tensors, and
    :math:`\hat g_k = \frac{L_k(\theta + \mu z) - L_k(\theta - \mu z)}{2 \mu} z` with a normal :math:`z` is an
    estimate of task k's gradient from two forward passes. A head is moved along its own gradient.

    Args:
        step: the losses.
        shared: finds the shared parameters.
        how: how the passes are made.
        again: computes the losses of the same batch anew, in the order of the step.
        uphill: the perturbation.

    References:
        Ban, Subramani, Ji, *SAMO: A Lightweight Sharpness-Aware Approach for Multi-Task Optimization with
        Joint Global-Local Perturbation*, ICCV 2025, arXiv:2507.07883.
    """

    def __init__(
        self,
        step: Step,
        shared: SharedParameters,
        how: Passes,
        again: Again,
        uphill: Uphill,
    ) -> None:
        super().__init__(step, shared, None, how)
        self._again = again
        self._uphill = uphill
        self._slopes: dict[Tensor, Tensor] = {}

    def _find(self) -> Found:
        # Every loss is computed anew at other parameters: there is no one graph to go down.
        return super()._find()._replace(entry=None)

    def deliver(
        self,
        weights: Tensor | None,
        direction: list[Tensor] | None,
        heads: Tensor,
        shown: Tensor,
        gradients: TaskGradients,
    ) -> Tensor:
        """See :meth:`AtParameters.deliver`; a method that asks for no gradients gets these all the same."""
        gradients.taken()
        return super().deliver(weights, direction, heads, shown, gradients)

    def _gradient(
        self, k: int, loss: Tensor, tensors: Sequence[Tensor], factor: float, keep: bool
    ) -> Gradients:
        count = len(self.found.shared)
        shared, own = tensors[:count], tensors[count:]
        if not self._slopes:
            self._slopes = self._mean_gradient()
        uphill = self._uphill
        estimate = self._estimate(k, shared) if uphill.local else None
        step = _scaled(
            _mixed([self._slopes[p] for p in shared], estimate, uphill.local), uphill.rho
        )
        step += _scaled([self._slopes[p] for p in own], uphill.rho)
        with _at(tensors, step):
            loss_there = self._again()[k]
            assert loss_there is not None
            start = torch.full_like(loss_there, factor)
            return list(grad(loss_there, tensors, start, allow_unused=True, materialize_grads=True))

    def _mean_gradient(self) -> dict[Tensor, Tensor]:
        found, step = self.found, self._step
        leaves = [*found.shared, *dict.fromkeys(p for own in found.own for p in own)]
        mean = step.stacked.sum() / len(step.names)
        slopes = grad(mean, leaves, allow_unused=True, materialize_grads=True)
        return {p: self._over_ranks(g) for p, g in zip(leaves, slopes, strict=True)}

    def _over_ranks(self, tensor: Tensor) -> Tensor:
        ranks: Ranks | None = self._how.ranks
        return tensor if ranks is None else ranks.mean(tensor)

    def _estimate(self, task: int, shared: Sequence[Tensor]) -> list[Tensor]:
        """A gradient estimate from two forward passes."""
        eps, ranks = self._uphill.eps, self._how.ranks
        seed = int(torch.randint(2**31, ()))
        noise = _noise(shared, seed if ranks is None else ranks.first(seed))
        values = []
        for sign in (1.0, -1.0):
            with torch.no_grad(), _at(shared, [sign * eps * z for z in noise]):
                value = self._again()[task]
                assert value is not None
                values.append(value)
        slope = self._over_ranks((values[0] - values[1]) / (2 * eps))
        return [slope * z for z in noise]


@contextmanager
def _at(parameters: Sequence[Tensor], steps: Sequence[Tensor]) -> Iterator[None]:
    """The parameters moved by ``steps`` while it lasts; statistics and generators untouched."""
    with untouched(), restored(parameters):
        moved(parameters, steps, -1.0)
        yield


def _noise(like: Sequence[Tensor], seed: int) -> list[Tensor]:
    """Standard normal draws, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.detach()) for p in like
    ]


def _mixed(mean: list[Tensor], estimate: list[Tensor] | None, local: float) -> list[Tensor]:
    if estimate is None:
        return mean
    tiny = torch.finfo(mean[0].dtype).tiny
    return [
        (1 - local) * g + local * g.norm() * e / e.norm().clamp_min(tiny)
        for g, e in zip(mean, estimate, strict=True)
    ]


def _scaled(direction: list[Tensor], length: float) -> list[Tensor]:
    if not direction:
        return []
    norm = torch.stack([d.norm() for d in direction]).norm()
    return [length * d / norm if norm > 0 else d for d in direction]
