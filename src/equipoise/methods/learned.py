"""Learned weights: one free number a task, trained with the network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from equipoise.methods.base import LossMethod
from equipoise.methods.options import PerTask


class Learned(LossMethod):
    """A loss method with one learnable number ``s`` a task.

    Give ``s`` an optimiser group without weight decay: decay would pull the weights back to their
    start.

    Args:
        init: where ``s`` starts, one number or one a task.
    """

    learns = True
    s: nn.Parameter | None

    def __init__(self, init: PerTask) -> None:
        super().__init__()
        self.init = init
        self.register_parameter("s", None)

    def begin(self, tasks: int) -> None:
        """See :meth:`Method.begin`."""
        if self.s is None:
            start = self.init.of(self, torch.empty(tasks, dtype=torch.get_default_dtype()))
            self.s = nn.Parameter(start.expand(tasks).clone())

    def learned(self, losses: Tensor) -> Tensor:
        """The numbers ``s`` of the tasks of this step, ``Tensor[K]``, with their graph.

        Raises:
            RuntimeError: the first step lacks a task and :meth:`begin` was not called.
            ValueError: ``s`` was made for another number of tasks.
        """
        if self.s is None:
            if self._present is not None:
                raise RuntimeError(
                    f"{self.card.id}: the first step lacks a task; call begin(tasks) before it"
                )
            self.begin(losses.shape[-1])
            assert self.s is not None
            self.s.data = self.s.data.to(losses)
        s = self.of_present(self.s)
        if s.shape[0] != losses.shape[-1]:
            raise ValueError(
                f"{self.card.id} learns {s.shape[0]} weights but was given {losses.shape[-1]} "
                "losses; use one method object per set of tasks"
            )
        return s

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(prefix + "s")
        if saved is not None and self.s is None:
            self.s = nn.Parameter(torch.empty_like(saved))
        super()._load_from_state_dict(state_dict, prefix, *args)
