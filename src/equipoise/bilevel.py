"""One step of a method that learns its weights on outer (validation) losses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from equipoise.methods.base import BilevelMethod
from equipoise.methods.forum import FORUM
from equipoise.monitor import untouched
from equipoise.routes import ahead, parameters

Closure = Callable[[], list[Tensor]]


def learn_weights(method: BilevelMethod, inner: Closure, outer: Closure) -> None:
    """Looks one virtual step ahead and moves the method's weights.

    Parameters, batch-norm statistics and random generators end as they began.

    Args:
        method: MOML or Auto-Lambda.
        inner: computes the K losses of the training batch.
        outer: computes the K losses of the validation batch.
    """
    with untouched():
        losses = inner()
        reached = ahead.trainable(losses)
        values = torch.stack([loss.detach() for loss in losses])
        rows = ahead.jacobian(losses, reached)
        with ahead.restored(reached):
            step = method.weights(values).to(rows) @ rows
            ahead.moved(reached, parameters.split(step, reached), method.inner_rate)
            beyond = ahead.jacobian(outer(), reached)
    method.learn((rows.double() @ beyond.double().mT).cpu())


def descend(method: FORUM, inner: Closure, outer: Closure) -> tuple[Tensor, Tensor]:
    """FORUM's joint step: moves the weights and finds the network's gradient.

    Args:
        method: FORUM.
        inner: computes the K losses of the training batch.
        outer: computes the K losses of the validation batch.

    Returns:
        A scalar with that gradient behind it, and the inner losses ``Tensor[K]``.
    """
    losses = inner()
    reached = ahead.trainable(losses)
    values = torch.stack([loss.detach() for loss in losses])
    weights = method.weights(values)
    stacked = torch.stack(losses)
    total = torch.dot(weights.to(stacked), stacked)
    slope = torch.cat([g.reshape(-1) for g in torch.autograd.grad(total, reached)]).double()
    with untouched(), ahead.restored(reached):
        ahead.after_descent(inner, reached, weights, method.inner_rate, method.inner_steps)
        lowest = torch.stack([loss.detach() for loss in inner()])
    with untouched():
        rows = ahead.jacobian(outer(), reached).double()
    norms = rows.norm(dim=1, keepdim=True)
    rows = rows / torch.where(norms > 0, norms, torch.ones_like(norms))
    difference = (values - lowest).double()
    # The gap's gradient has a part in the weights too, which meets no outer gradient.
    w = weights.double()
    in_weights = w * difference - w * (w @ difference)
    square = slope @ slope + in_weights @ in_weights
    mean, nu = method.mix((rows @ rows.mT).cpu(), (rows @ slope).cpu(), square.cpu())
    method.move(difference.cpu(), nu)
    direction = mean.to(rows) @ rows + nu.to(rows) * slope
    gradients: list[Tensor | None] = list(parameters.split(direction, reached))
    return parameters.deliver(total.detach(), reached, gradients), values
