"""One call in place of ``accelerator.prepare``; the loop calls ``accelerator.backward(balancer(losses))``."""

from __future__ import annotations

from typing import Any

import torch

from equipoise.adapters.shared import groups_left, keep_from_ddp
from equipoise.balance import Balancer


def prepare(accelerator: Any, balancer: Balancer, *objects: Any, **options: Any) -> Any:
    """Prepares what trains beside a balancer, and the balancer with it.

    ::

        model, optimizer, loader = prepare(accelerator, balancer, model, optimizer, loader)

    The balancer goes to the device and into ``save_state`` and ``load_state``; weights that are learned are
    given to the optimiser, without weight decay. The balancer itself is not wrapped: it sees to several
    processes by itself.

    Args:
        accelerator: of Accelerate.
        balancer: beside the model, or part of it.
        objects: model, optimiser, loaders, schedules, as ``accelerator.prepare`` takes them.
        options: of the parameter group of weights that are learned, such as ``lr``.

    Returns:
        What ``accelerator.prepare(*objects)`` returns.

    Raises:
        ValueError: there are weights to learn, and no single optimiser for them, or a schedule that was built
            without them.
    """
    models = [each for each in objects if isinstance(each, torch.nn.Module)]
    inside = any(module is balancer for model in models for module in model.modules())
    for model in models:
        keep_from_ddp(model, balancer)
    balancer.to(accelerator.device)
    optimizers = [each for each in objects if isinstance(each, torch.optim.Optimizer)]
    groups = groups_left(balancer, optimizers, options)
    schedules = [each for each in objects if isinstance(each, torch.optim.lr_scheduler.LRScheduler)]
    if groups and (len(optimizers) != 1 or schedules):
        raise ValueError(
            f"'{balancer.card.id}' learns its weights; prepare() adds them to one optimiser without a "
            f"schedule, and got {len(optimizers)} optimisers and {len(schedules)} schedules: give "
            "*balancer.param_groups() to your optimiser when you build it, or use "
            "Balancer(..., self_optimized=True)"
        )
    for group in groups:
        optimizers[0].add_param_group(group)
    if not inside:
        accelerator.register_for_checkpointing(balancer)
    return accelerator.prepare(*objects)
