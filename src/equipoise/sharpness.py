"""SAMO: task gradients taken where a small step uphill leads, around any method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd import grad

from equipoise.monitor import untouched
from equipoise.routes import ahead
from equipoise.routes.parameters import TaskGradients
from equipoise.routes.shared import Found


def uphill_gradients(
    losses: Sequence[Tensor],
    again: Callable[[], list[Tensor]],
    found: Found,
    *,
    rho: float,
    local: float,
    eps: float,
) -> TaskGradients:
    r"""Task gradients at perturbed parameters, one perturbation a task.

    .. math::
        \epsilon_k = \rho \frac{p_k}{\|p_k\|}, \quad
        p_{k,n} = (1 - \beta) \, g_n + \beta \, \|g_n\| \frac{\hat g_{k,n}}{\|\hat g_{k,n}\|}

    where :math:`g` is the gradient of the mean loss, :math:`n` runs over parameter tensors, and
    :math:`\hat g_k = \frac{L_k(\theta + \mu z) - L_k(\theta - \mu z)}{2 \mu} z` with a normal :math:`z` is an
    estimate of task k's gradient from two forward passes. A head is moved along its own gradient.

    Args:
        losses: K losses with their graph.
        again: computes the K losses of the same batch anew.
        found: the shared parameters and the tasks' own.
        rho: length of the perturbation.
        local: :math:`\beta`, share of the task's own gradient.
        eps: :math:`\mu`, of the estimate.

    References:
        Ban, Subramani, Ji, *SAMO: A Lightweight Sharpness-Aware Approach for Multi-Task Optimization with
        Joint Global-Local Perturbation*, ICCV 2025, arXiv:2507.07883.
    """
    everything = [*found.shared, *dict.fromkeys(p for own in found.own for p in own)]
    mean = torch.stack(list(losses)).mean()
    slopes = dict(
        zip(
            everything,
            grad(mean, everything, allow_unused=True, materialize_grads=True),
            strict=True,
        )
    )
    jacobian: list[Tensor] = []
    heads: list[list[Tensor | None]] = []
    for k, own in enumerate(found.own):
        estimate = _estimate(k, again, found.shared, eps) if local else None
        uphill = _scaled(_mixed([slopes[p] for p in found.shared], estimate, local), rho)
        uphill += _scaled([slopes[p] for p in own], rho)
        moving = [*found.shared, *own]
        with _at(moving, uphill):
            loss = again()[k]
            got = grad(loss, moving, allow_unused=True, materialize_grads=True)
        count = len(found.shared)
        jacobian.append(torch.cat([g.reshape(-1) for g in got[:count]]))
        heads.append(list(got[count:]))
    return TaskGradients(torch.stack(jacobian), heads)


@contextmanager
def _at(parameters: Sequence[Tensor], steps: Sequence[Tensor]) -> Iterator[None]:
    """The parameters moved by ``steps`` while it lasts; statistics and generators untouched."""
    with untouched(), ahead.restored(parameters):
        ahead.moved(parameters, steps, -1.0)
        yield


def _estimate(
    task: int, again: Callable[[], list[Tensor]], shared: Sequence[Tensor], eps: float
) -> list[Tensor]:
    """A gradient estimate from two forward passes."""
    noise = [torch.randn_like(p) for p in shared]
    values = []
    for sign in (1.0, -1.0):
        with torch.no_grad(), _at(shared, [sign * eps * z for z in noise]):
            values.append(again()[task])
    slope = (values[0] - values[1]) / (2 * eps)
    return [slope * z for z in noise]


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
