"""How far task gradients agree, measured beside the training and without touching it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from equipoise.problems import Split, Task


def task_gradients(
    model: nn.Module, tasks: Sequence[Task], probe: Split
) -> tuple[list[float], list[list[float]]]:
    """Norms and cosines of the task gradients of the shared parameters.

    The model is in evaluation mode meanwhile, so that neither running statistics nor random generators
    move.

    Args:
        model: network with a ``trunk``; without one all parameters count as shared.
        tasks: K tasks.
        probe: the examples to take the gradients on.

    Returns:
        K norms, and K x K cosines (NaN where a gradient is zero).
    """
    was_training = model.training
    model.eval()
    shared = [p for p in getattr(model, "trunk", model).parameters() if p.requires_grad]
    outputs = model(probe.inputs)
    rows = []
    for number, task in enumerate(tasks):
        loss = task.loss(outputs[task.name], probe.targets[task.name])
        parts = torch.autograd.grad(
            loss, shared, retain_graph=number + 1 < len(tasks), allow_unused=True
        )
        rows.append(
            torch.cat(
                [
                    (torch.zeros_like(p) if part is None else part).flatten()
                    for p, part in zip(shared, parts, strict=True)
                ]
            )
        )
    jacobian = torch.stack(rows).double()
    norms = jacobian.norm(dim=1)
    cosines = (jacobian @ jacobian.mT) / (norms[:, None] * norms[None, :])
    model.train(was_training)
    return norms.tolist(), cosines.tolist()
