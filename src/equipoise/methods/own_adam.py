"""Adam on a method's own few numbers, kept in buffers so that it is saved and restored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Method

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


class OwnAdam(Method):
    """A method that trains ``Tensor[..., K]`` of its own, by Adam with the usual constants."""

    adam_state: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "first_moment": (-1,),
        "second_moment": (-1,),
        "updates": (-1,),
    }
    first_moment: Tensor
    second_moment: Tensor
    updates: Tensor

    def adam(self, gradient: Tensor, lr: float) -> Tensor:
        """What to add to the numbers whose gradient this is, ``Tensor[..., K]``."""
        zero = torch.zeros_like(gradient)
        self.updates = self.recall("updates", zero) + 1
        self.first_moment = torch.lerp(gradient, self.recall("first_moment", zero), BETA1)
        self.second_moment = torch.lerp(gradient**2, self.recall("second_moment", zero), BETA2)
        first = self.first_moment / (1 - BETA1**self.updates)
        second = self.second_moment / (1 - BETA2**self.updates)
        return -lr * first / (second.sqrt() + EPS)
