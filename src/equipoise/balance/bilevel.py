"""One step of a method that learns its weights on outer (validation) losses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from equipoise.gradients.base import cut
from equipoise.gradients.delivery import Delivery
from equipoise.gradients.lookahead import Ahead, moved, restored, untouched
from equipoise.gradients.ranks import Ranks
from equipoise.gradients.step import Step
from equipoise.methods.base import BilevelMethod
from equipoise.methods.forum import FORUM

Closure = Callable[[], Step]


class Skip(Exception):  # noqa: N818 - no error: the user asked for it
    """A loss is not finite, and the step is to be left out."""


def learn_weights(
    method: BilevelMethod, inner: Closure, outer: Closure, ranks: Ranks | None
) -> None:
    """Looks one virtual step ahead and moves the method's weights.

    Parameters, batch-norm statistics and random generators end as they began.

    Args:
        method: MOML or Auto-Lambda.
        inner: computes the K losses of the training batch.
        outer: computes the K losses of the validation batch.
        ranks: the processes that train together, if there are several.
    """
    with untouched():
        before = inner()
        ahead = Ahead(before.present, ranks)
        rows = ahead.jacobian(before.present)
        with restored(ahead.parameters):
            step = method.weights(before.values).to(rows) @ rows
            moved(ahead.parameters, cut(step, ahead.parameters), method.inner_rate)
            beyond = ahead.jacobian(outer().present)
    method.learn((rows.double() @ beyond.double().mT).cpu())


def descend(
    method: FORUM, inner: Closure, outer: Closure, ranks: Ranks | None
) -> tuple[Tensor, Step, Tensor, list[Tensor]]:
    """FORUM's joint step: moves the weights and finds the network's gradient.

    Args:
        method: FORUM.
        inner: computes the K losses of the training batch.
        outer: computes the K losses of the validation batch.
        ranks: the processes that train together, if there are several.

    Returns:
        A scalar with that gradient behind it, the inner step, its weights ``Tensor[K]``, and the parameters.
    """
    step = inner()
    ahead = Ahead(step.present, ranks)
    weights = method.weights(step.values)
    total = step.weighted(weights)
    slope = ahead.jacobian([total])[0].double()
    with untouched(), restored(ahead.parameters):
        ahead.descend(inner, weights, method.inner_rate, method.inner_steps)
        lowest = inner().values
    with untouched():
        rows = ahead.jacobian(outer().present).double()
    norms = rows.norm(dim=1, keepdim=True)
    rows = rows / torch.where(norms > 0, norms, torch.ones_like(norms))
    difference = (step.values - lowest).double()
    # The gap's gradient has a part in the weights too, which meets no outer gradient.
    w = weights.double()
    in_weights = w * difference - w * (w @ difference)
    square = slope @ slope + in_weights @ in_weights
    mean, nu = method.mix((rows @ rows.mT).cpu(), (rows @ slope).cpu(), square.cpu())
    method.move(difference.cpu(), nu)
    direction = mean.to(rows) @ rows + nu.to(rows) * slope
    gradients = cut(direction, ahead.parameters)
    scalar = Delivery(ahead.parameters, gradients, ahead.sinks).behind(total.detach())
    return scalar, step.light(), method.weights(step.values), ahead.parameters
